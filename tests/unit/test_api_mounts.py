"""Mounts of a patch of `spec.podTemplate` that have no volume."""

from __future__ import annotations

from typing import Any

import pytest
from unit.api_objects import endpoint

from sglang_operator.api import parse_endpoint
from sglang_operator.api.mounts import RENDERED
from sglang_operator.render import render_endpoint

DATA = {"name": "data", "mountPath": "/data"}
SECRET_KEY = {"name": "s", "key": "k"}


def mounting(*mounts: Any, **of_pod: Any) -> dict[str, Any]:
    return {"containers": [{"name": "ray-worker", "volumeMounts": list(mounts)}], **of_pod}


def warnings(patch: Any, group: str = "worker") -> list[str]:
    found = parse_endpoint(endpoint(podTemplate={group: {"spec": patch}})).warnings
    return [f"{one.path}: {one.message}: {one.value}: {one.remedy}" for one in found]


def test_a_mount_without_its_volume_is_told_with_the_remedy() -> None:
    (said,) = warnings(mounting(DATA))
    where = 'spec.podTemplate.worker.spec.containers["ray-worker"].volumeMounts["/data"].name'
    assert said.startswith(f"{where}: no volume of this name: every pod is refused")
    assert said.endswith(": data: add {name: data, …} to spec.podTemplate.worker.spec.volumes")


@pytest.mark.parametrize(
    "patch",
    [
        mounting({**DATA, "name": "model-cahce"}),
        mounting({**DATA, "name": "kubernetes-api"}),
        mounting(DATA, volumes=[{"name": "data", "$patch": "delete"}]),
        {"initContainers": [{"name": "i", "image": "i", "volumeMounts": [DATA]}]},
        {"containers": [{"name": "c", "image": "i", "volumeDevices": [{"name": "data", "devicePath": "/dev/x"}]}]},
    ],
    ids=str,
)
def test_other_mounts_without_a_volume(patch: Any) -> None:
    assert len(warnings(patch)) == 1


def test_a_name_that_was_meant_to_be_another() -> None:
    (said,) = warnings(mounting({**DATA, "name": "model-cahce"}))
    assert "did you mean model-cache? Otherwise add" in said


@pytest.mark.parametrize(
    "patch",
    [
        mounting(DATA, volumes=[{"name": "data", "emptyDir": {}}]),
        mounting({"mountPath": "/dev/shm", "readOnly": True}),
        mounting({**DATA, "$patch": "delete"}),
        mounting({**DATA, "name": "ray-logs"}, {"name": "ray-token", "mountPath": "/t"}),
        mounting("x", None, {"name": ["data"]}, {}),
        {"containers": "none", "initContainers": [None, {"volumeMounts": "x"}], "volumes": {}},
        {"volumes": [{"name": ["data"], "$patch": "delete"}, None]},
        None,
    ],
    ids=str,
)
def test_what_is_mounted_or_no_mount(patch: Any) -> None:
    assert warnings(patch) == []


def test_each_group_has_volumes_of_its_own() -> None:
    head = {"containers": [{"name": "ray-head", "volumeMounts": [{**DATA, "name": "kubernetes-api"}]}]}
    assert warnings(head, "head") == []
    head["containers"][0]["volumeMounts"] = [{**DATA, "name": "model-cache"}]
    assert len(warnings(head, "head")) == 1


def test_the_names_are_the_renderers() -> None:
    found: dict[str, set[str]] = {"head": set(), "worker": set()}
    for uri in ("hf://a/b", "pvc://models/m"):
        model = {"uri": uri, "lora": {"claimName": "adapters"}}
        spec = endpoint(model=model, api={"keysSecret": {"name": "k"}, "adminKeySecret": SECRET_KEY})
        (service,) = [one for one in render_endpoint(parse_endpoint(spec)) if one["kind"] == "RayService"]
        cluster = service["spec"]["rayClusterConfig"]
        for group, part in (("head", cluster["headGroupSpec"]), ("worker", cluster["workerGroupSpecs"][0])):
            found[group] |= {one["name"] for one in part["template"]["spec"]["volumes"]}
    assert {group: frozenset(names) for group, names in found.items()} == RENDERED
