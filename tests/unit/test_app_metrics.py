"""Metrics: what is counted, few series, and one list of them in the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from sglang_operator.app.metrics import Metrics, kind_of
from sglang_operator.cluster.paths import KINDS
from sglang_operator.cluster.types import Key

PAGE = Path(__file__).parents[2] / "docs/operations/operator.md"
KEY = Key("ns", "qwen3")
STATUS = {
    "conditions": [{"type": "Accepted", "status": "True"}, {"type": "Ready", "status": "True"}],
    "accelerators": {"allocated": 6, "rollout": 2},
    "readyReplicas": 2,
    "desiredReplicas": 3,
}


def value(metrics: Metrics, metric: str, /, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"sglang_operator_{metric}", labels)


def all_series(metrics: Metrics) -> set[str]:
    families = text_string_to_metric_families(metrics.text().decode())
    return {sample.name for family in families for sample in family.samples}


def test_every_metric_is_documented_and_every_documented_one_exists() -> None:
    metrics = Metrics()
    metrics.asked("GET", "/api/v1/pods", 200)
    metrics.report(KEY, STATUS)
    base = {re.sub("_(bucket|sum|count)$", "", name) for name in all_series(metrics)}
    documented = set(re.findall(r"^\| `(sglang_operator_\w+)", PAGE.read_text(), re.MULTILINE))
    assert documented == {name for name in base if name.startswith("sglang_operator_")}


def test_passes_are_counted_by_result_and_those_that_come_back_as_retries() -> None:
    metrics = Metrics()
    for result in ("success", "requeue_after", "conflict", "error", "error"):
        metrics.passed(result, 0.2)
    assert value(metrics, "reconcile_total", result="error") == 2
    assert value(metrics, "reconcile_seconds_count") == 5
    assert value(metrics, "queue_retries_total") == 3


def test_a_result_that_never_came_is_zero() -> None:
    assert value(Metrics(), "reconcile_total", result="error") == 0


def test_an_endpoint_has_its_state_until_it_is_gone() -> None:
    metrics = Metrics()
    metrics.report(KEY, STATUS)
    assert value(metrics, "endpoint_ready", namespace="ns", name="qwen3") == 1
    assert value(metrics, "accelerators", namespace="ns", name="qwen3", state="serving") == 4
    assert value(metrics, "accelerators", namespace="ns", name="qwen3", state="rollout") == 2
    metrics.report(KEY, {"conditions": [{"type": "Ready", "status": "Unknown"}]})
    assert value(metrics, "endpoint_ready", namespace="ns", name="qwen3") == 0
    assert value(metrics, "accelerators", namespace="ns", name="qwen3", state="serving") == 0
    metrics.report(KEY, None)
    assert b"qwen3" not in metrics.text()
    metrics.report(KEY, None)


def test_a_condition_is_told_with_the_reason_that_it_has_now() -> None:
    metrics = Metrics()

    def told(status: str, reason: str) -> set[tuple[str, float]]:
        metrics.report(KEY, {**STATUS, "conditions": [{"type": "Degraded", "status": status, "reason": reason}]})
        (family,) = (one for one in metrics.registry.collect() if one.name == "sglang_operator_endpoint_condition")
        return {(sample.labels["reason"], sample.value) for sample in family.samples}

    assert told("True", "NoCapacity") == {("NoCapacity", 1)}
    assert told("True", "RevisionFailing") == {("RevisionFailing", 1)}
    assert told("False", "AsExpected") == {("AsExpected", 0)}
    assert told("Unknown", "Paused") == set()


def test_replicas_that_are_ready_and_that_shall_be() -> None:
    metrics = Metrics()
    metrics.report(KEY, STATUS)
    assert value(metrics, "endpoint_replicas", namespace="ns", name="qwen3", state="ready") == 2
    assert value(metrics, "endpoint_replicas", namespace="ns", name="qwen3", state="desired") == 3


def test_an_endpoint_that_its_owner_stopped_is_no_trouble_and_says_nothing() -> None:
    metrics = Metrics()
    stopped = {"conditions": [{"type": "Ready", "status": "False", "reason": "Stopped"}]}
    for status in (stopped, STATUS, stopped, stopped):
        metrics.report(KEY, status)
        assert (b"endpoint_ready{" in metrics.text()) == (status is STATUS)
    metrics.report(KEY, None)
    assert b"qwen3" not in metrics.text()


def test_a_resync_drops_endpoints_whose_deletion_was_missed() -> None:
    metrics = Metrics()
    metrics.report(KEY, STATUS)
    metrics.report(Key("ns", "stays"), STATUS)
    metrics.keep_only([Key("ns", "stays"), Key("ns", "new")])
    assert b"qwen3" not in metrics.text()
    assert value(metrics, "endpoint_ready", namespace="ns", name="stays") == 1


def test_gauges_are_asked_when_they_are_read() -> None:
    metrics, depth = Metrics(), [1]
    metrics.watch(lambda: depth[0], lambda: 2.5, lambda: 0.1)
    metrics.leads(yes=True)
    depth[0] = 7
    assert value(metrics, "queue_depth") == 7
    assert value(metrics, "longest_running_seconds") == 2.5
    assert value(metrics, "leader") == 1


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/api/v1/namespaces/ns/pods/qwen3-0", "pods"),
        ("/api/v1/namespaces/ns/pods/qwen3-0/log", "pods/log"),
        ("/api/v1/pods", "pods"),
        ("/apis/ray.io/v1/namespaces/ns/rayservices", "rayservices"),
        ("/apis/serve.sglang.io/v1alpha1/namespaces/ns/sglangendpoints/qwen3/status", "sglangendpoints/status"),
        ("/apis/ray.io/v1", "other"),
        ("/api/v1/namespaces/ns", "namespaces"),
        ("/api", "other"),
        ("/version", "other"),
        ("/", "other"),
    ],
)
def test_the_kind_of_a_request(path: str, kind: str) -> None:
    assert kind_of(path) == kind


NAMES = st.from_regex(r"[a-z]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)


@given(st.sampled_from(sorted(KINDS)), NAMES, NAMES, st.sampled_from(["", "status"]))
def test_no_name_of_an_object_becomes_a_label(kind: str, namespace: str, name: str, subresource: str) -> None:
    plural = KINDS[kind].plural
    path = KINDS[kind].of(namespace, name, subresource)
    assert kind_of(path) == (f"{plural}/{subresource}" if subresource else plural)
