"""Conditions that need no decision."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from unit.api_objects import endpoint
from unit.test_cluster_records import stored

from sglang_operator.api import parse_endpoint
from sglang_operator.api.defaults import NONE, Json, parse_with_defaults
from sglang_operator.cluster import findings
from sglang_operator.cluster.api import ApiError
from sglang_operator.cluster.observe import View
from sglang_operator.cluster.reconcile import Pass
from sglang_operator.cluster.snapshot import Snapshot
from sglang_operator.lifecycle import Observed, Plan, wanted_of
from sglang_operator.lifecycle.observed import Selection
from sglang_operator.lifecycle.reasons import Reason, Status
from sglang_operator.render import Platform, render_endpoint


def rendered(platform: Platform | None = None, defaults: Json = NONE, **spec: Any) -> dict[str, Any]:
    objects = render_endpoint(parse_with_defaults(endpoint(**spec), defaults), platform)
    return next(item for item in objects if item["kind"] == "RayService")


def test_what_this_operator_would_make_is_up_to_date_whatever_the_count() -> None:
    assert findings.update_available(stored(), rendered(replicas=3)).status is Status.FALSE
    assert findings.update_available(None, rendered()).status is Status.FALSE


def test_a_record_whose_json_was_ordered_anew_is_up_to_date() -> None:
    """As by a backup that was restored."""
    record = stored()
    ordered = replace(record, ray_service=json.loads(json.dumps(record.ray_service, sort_keys=True)))
    assert findings.update_available(ordered, rendered()).status is Status.FALSE


def test_a_newer_image_of_the_platform_waits() -> None:
    newer = replace(Platform(), images=dict.fromkeys(("nvidia", "amd", "cpu"), "registry.example.com/next:1"))
    found = findings.update_available(stored(), rendered(newer))
    assert (found.status, found.reason) == (Status.TRUE, Reason.NEW_DEFAULTS)
    assert "restartToken" in found.message


def test_a_revision_that_has_never_served_is_compared_as_well() -> None:
    """It keeps the wrong default that it was recorded with, and waits for an image that will never come."""
    mended = rendered(defaults={"engine": {"image": "mirror.example.com/right/serving:1"}})
    waits = stored(defaults={"engine": {"image": "mirror.example.com/wrong/serving:1"}})
    found = findings.update_available(waits, mended, serves=False)
    assert (found.status, found.reason) == (Status.TRUE, Reason.NEW_DEFAULTS)
    assert "spec.restartToken" in found.message
    assert findings.update_available(stored(), rendered(), serves=False).reason is Reason.UP_TO_DATE
    assert findings.update_available(None, rendered(), serves=False).reason is Reason.UP_TO_DATE


@pytest.mark.parametrize("selected", ["", "qwen3-another"])
def test_a_pass_says_so_of_what_the_spec_asks_for(selected: str) -> None:
    """Of a first revision that cannot start, and of one that failed while another serves."""
    waits = stored(defaults={"engine": {"image": "mirror.example.com/wrong/serving:1"}})
    parsed = parse_endpoint(endpoint())
    view = View(Observed(service=Selection(selected)), {})
    taken = Snapshot(endpoint={}, records=(waits,))
    this = Pass(taken, parsed, wanted_of(parsed, waits.name), view, Plan(), render_endpoint(parsed), 0.0)
    assert this.conditions(None)[-1].reason is Reason.NEW_DEFAULTS


@pytest.mark.parametrize(
    "newer",
    [
        {"engine": {"args": {"enable_metrics": True}}},
        {"task": "embed"},
        {"model": {"uri": "hf://Qwen/Qwen3-8B", "revision": "v2"}},
        {"upgrade": {"drainSeconds": 7}},
    ],
    ids=str,
)
def test_a_newer_default_of_the_engine_waits_too(newer: dict[str, Any]) -> None:
    """What only the Serve configuration has: a live one is never given it."""
    assert findings.update_available(stored(), rendered(**newer)).reason is Reason.NEW_DEFAULTS


LIVE = [{"scaling": {"min": 1, "max": 4}}, {"scaling": {"min": 0, "max": 4}}, {"replicas": 2}]


@pytest.mark.parametrize("before", LIVE, ids=str)
@pytest.mark.parametrize("live", LIVE, ids=str)
def test_what_reaches_a_live_revision_does_not_wait(before: dict[str, Any], live: dict[str, Any]) -> None:
    assert findings.update_available(stored(**before), rendered(**live)).status is Status.FALSE


def test_another_port_of_the_head_waits() -> None:
    mine = {"name": "ray-head", "ports": [{"name": "mine", "containerPort": 7777}]}
    newer = rendered(podTemplate={"head": {"spec": {"containers": [mine]}}})
    assert findings.update_available(stored(), newer).reason is Reason.NEW_DEFAULTS


READ = (
    'rayservices.ray.io is forbidden: User "system:serviceaccount:s:o" cannot list resource "rayservices" in API group '
    '"ray.io" in the namespace "a"'
)
OWNING = (
    'rayservices.ray.io "q" is forbidden: cannot set blockOwnerDeletion if an ownerReference refers to a resource you '
    "can't set finalizers on: , <nil>"
)


@pytest.mark.parametrize("said", [READ, OWNING])
def test_a_missing_right_is_named_with_its_remedy(said: str) -> None:
    error = ApiError(403, "Forbidden", said)
    found = findings.blocked(error)
    assert found.reason is Reason.FORBIDDEN
    assert said in found.message
    assert "helm upgrade" in found.message
    assert "rbac.create" in error.advice


@pytest.mark.parametrize(
    "said",
    [
        'pods "x" is forbidden: exceeded quota: compute',
        'pods "x" is forbidden: violates PodSecurity "restricted:latest": privileged',
        'admission webhook "policy.example.com" denied the request: no registry but ours',
    ],
)
def test_a_quota_or_a_policy_is_no_missing_right(said: str) -> None:
    error = ApiError(403, "Forbidden", said)
    assert findings.blocked(error).reason is Reason.REFUSED
    assert error.advice == ""


@pytest.mark.parametrize(
    ("status", "said", "reason"),
    [
        (422, 'Ingress.networking.k8s.io "e" is invalid: spec.rules[0].host: Invalid value', "InvalidObject"),
        (400, 'strict decoding error: unknown field "spec.x"', "InvalidObject"),
        (500, "failed to create typed patch object: .spec.x: field not declared in schema", "InvalidObject"),
        (500, 'failed calling webhook "a.b.c": no endpoints available', "RefusedByCluster"),
        (400, 'admission webhook "a.b.c" does not support dry run', "RefusedByCluster"),
        (403, 'pods "x" is forbidden: exceeded quota: compute', "RefusedByCluster"),
        (400, 'admission webhook "a.b.c" denied the request: host "a.b" is already defined', "RefusedByCluster"),
    ],
)
def test_what_no_other_try_makes_valid_has_a_reason_of_its_own(status: int, said: str, reason: str) -> None:
    assert findings.blocked(ApiError(status, "", said)).reason.value == reason


def test_without_kuberay_it_gives_the_command_of_the_readme() -> None:
    section = (Path(__file__).parents[2] / "README.md").read_text().split("## Install on a cluster")[1]
    command = section.split("$ ")[1].replace("\\\n", "").split()
    assert command[:3] == ["helm", "install", "kuberay-operator"]
    assert f"({' '.join(command)})" in findings.kuberay_absent().message
