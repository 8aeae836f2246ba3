"""In-place changes: only the closed list of values moves, bounds fall only when nothing is killed by it."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st
from unit.api_objects import endpoint

from sglang_operator.api import parse_endpoint
from sglang_operator.cluster.compare import covers
from sglang_operator.cluster.in_place import InPlace, cluster_patch, in_place_of, live_ray_service, written_values
from sglang_operator.cluster.metadata import Owner
from sglang_operator.cluster.types import Key
from sglang_operator.render import render_endpoint

OWNER = Owner(Key("default", "qwen3"), "uid-1")


def rendered(**spec: Any) -> dict[str, Any]:
    return next(item for item in render_endpoint(parse_endpoint(endpoint(**spec))) if item["kind"] == "RayService")


def values(**spec: Any) -> InPlace:
    return in_place_of(parse_endpoint(endpoint(**spec)), "digest")


def test_without_a_change_the_recorded_bytes_stay() -> None:
    recorded = rendered()
    assert live_ray_service(OWNER, recorded, values())["spec"] == recorded["spec"]


@given(st.integers(0, 5), st.integers(0, 5), st.sampled_from(["Answer", "NotFound"]))
def test_only_the_closed_list_of_values_moves(before: int, after: int, unknown: str) -> None:
    recorded = rendered(replicas=before)
    made = live_ray_service(OWNER, recorded, values(replicas=after, api={"unknownModel": unknown}))
    assert written_values(made) == values(replicas=after, api={"unknownModel": unknown})
    assert frozen(made) == frozen(recorded)


def frozen(ray_service: dict[str, Any]) -> Any:
    """All of it but the values that may move."""
    config = yaml.safe_load(ray_service["spec"]["serveConfigV2"])
    (deployment,) = config["applications"][0].pop("deployments")
    moving = {"num_replicas", "autoscaling_config", "user_config"}
    spec = yaml.safe_load(yaml.safe_dump(ray_service["spec"]["rayClusterConfig"]))
    for group in spec["workerGroupSpecs"]:
        group["minReplicas"] = group["maxReplicas"] = group["replicas"] = None
    return config, {key: value for key, value in deployment.items() if key not in moving}, spec


def cluster(low: int, high: int, replicas: int = 1) -> dict[str, Any]:
    group = {"groupName": "worker", "replicas": replicas, "minReplicas": low, "maxReplicas": high}
    return {"spec": {"workerGroupSpecs": [group]}}


def patched(live: dict[str, Any], wanted: InPlace, pods: tuple[str, ...] = ()) -> dict[str, Any]:
    group = dict(live["spec"]["workerGroupSpecs"][0])
    for operation in cluster_patch(live, wanted, pods):
        key = operation["path"].rpartition("/")[2]
        if operation["op"] == "add":
            group[key] = operation["value"]
    return group


def test_bounds_that_fit_need_no_patch() -> None:
    assert cluster_patch(cluster(2, 2), values(replicas=2), ("a", "b")) == []


def test_more_replicas_raise_both_bounds() -> None:
    group = patched(cluster(1, 1), values(replicas=3), ("a",))
    assert (group["minReplicas"], group["maxReplicas"], group["replicas"]) == (3, 3, 1)


def test_the_upper_bound_falls_only_when_the_pods_are_gone() -> None:
    assert patched(cluster(3, 3), values(replicas=1), ("a", "b", "c"))["maxReplicas"] == 3
    assert patched(cluster(1, 3), values(replicas=1), ("a",))["maxReplicas"] == 1


def test_a_failed_revision_loses_its_workers_by_name() -> None:
    released = InPlace(1, {}, "", released=True)
    group = patched(cluster(1, 1), released, ("a",))
    assert (group["maxReplicas"], group["replicas"]) == (0, 0)
    assert group["scaleStrategy"] == {"workersToDelete": ["a"]}


@given(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4), st.integers(0, 4))
def test_bounds_never_cross(low: int, extra: int, wanted: int, pods: int) -> None:
    group = patched(cluster(low, low + extra), values(replicas=wanted), tuple(map(str, range(pods))))
    assert group["minReplicas"] <= group["maxReplicas"]


def test_what_the_server_adds_is_no_difference_but_what_is_missing_is() -> None:
    wanted = {"spec": {"ports": [{"port": 80}], "type": "ClusterIP", "empty": ""}}
    live = {"spec": {"ports": [{"port": 80, "protocol": "TCP"}], "type": "ClusterIP", "clusterIP": "10.0.0.1"}}
    assert covers(live, wanted)
    assert not covers({"spec": {**live["spec"], "type": "NodePort"}}, wanted)
    assert not covers({"spec": {**live["spec"], "ports": []}}, wanted)
