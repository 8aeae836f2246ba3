"""The CRD on a real API server: it refuses what is refused offline, with the same words, and takes the examples."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import yaml
from chart.conftest import ROOT
from localcluster import ControlPlane
from localcluster.kubectl import Refused
from unit.api_objects import endpoint
from unit.rule_cases import CASES

Json = dict[str, Any]
OF_THE_NAME = "must be lower-case letters"  # the API server has a rule of its own on names, which comes first


def create(control_plane: ControlPlane, *objects: Json) -> str:
    """As if they were made; nothing is stored."""
    listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    return control_plane.kubectl("create", "--dry-run=server", "-f", "-", "-o", "yaml", stdin=json.dumps(listed))


def test_examples(control_plane: ControlPlane) -> None:
    examples = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "examples").glob("*.yaml"))]
    created = list(yaml.safe_load_all(create(control_plane, *examples)))
    for example, stored in zip(examples, created, strict=True):
        assert stored["spec"] == {"replicas": 1, **example["spec"]}


@pytest.mark.parametrize("start", CASES)
def test_what_breaks_a_rule_is_refused_with_its_words(control_plane: ControlPlane, start: str) -> None:
    for obj in CASES[start][0]:
        with pytest.raises(Refused) as refused:
            create(control_plane, obj)
        assert start == OF_THE_NAME or start in str(refused.value), obj


@pytest.mark.parametrize("start", CASES)
def test_what_is_just_within_a_rule_is_taken(control_plane: ControlPlane, start: str) -> None:
    create(control_plane, *map(copy.deepcopy, CASES[start][1]))


def test_kubectl_scale_sets_a_fixed_number_and_is_told_who_decides_otherwise(
    control_plane: ControlPlane, namespace: str
) -> None:
    for name, scaling in (("fixed", {}), ("scaled", {"scaling": {"min": 0, "max": 4}})):
        obj = {**endpoint(**scaling), "metadata": {"name": name, "namespace": namespace}}
        control_plane.kubectl("create", "-f", "-", stdin=json.dumps(obj))
    scale = ("scale", "--namespace", namespace, "--replicas=3")
    control_plane.kubectl(*scale, "sglangendpoints/fixed")
    with pytest.raises(Refused, match=r"spec\.scaling decides .* change spec\.scaling\.min"):
        control_plane.kubectl(*scale, "sglangendpoints/scaled")
    with pytest.raises(Refused, match=r"spec\.scaling decides"):  # the number would be forgotten in silence
        patch(control_plane, namespace, "fixed", {"scaling": {"max": 4}})
    patch(control_plane, namespace, "fixed", {"scaling": {"max": 4}, "replicas": None})
    patch(control_plane, namespace, "fixed", {"scaling": None, "replicas": 2})


def patch(control_plane: ControlPlane, namespace: str, name: str, spec: Json) -> None:
    body = json.dumps({"spec": spec})
    control_plane.kubectl(
        "patch", f"sglangendpoints/{name}", "--namespace", namespace, "--type=merge", f"--patch={body}"
    )
