"""In-place changes: only the closed list of values moves, bounds fall only when nothing is killed by it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from unit.api_objects import endpoint

from sglang_operator.api import parse_endpoint
from sglang_operator.api.spec_scaling import HOLD_SECONDS
from sglang_operator.cluster.compare import covers
from sglang_operator.cluster.in_place import (
    IN_PLACE,
    InPlace,
    cluster_patch,
    in_place_of,
    live_ray_service,
    pods_per_replica,
    worker_bounds,
    written_values,
)
from sglang_operator.cluster.metadata import Owner
from sglang_operator.cluster.types import Key
from sglang_operator.lifecycle.observed import TakenBack
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


@pytest.mark.parametrize(("least", "most", "floor"), [(0, 2, 0), (0, 2, 1), (1, 4, 0), (1, 4, 9), (2, 2, 1)])
def test_autoscaling_comes_goes_and_moves_in_place(least: int, most: int, floor: int) -> None:
    scaling = {"min": least, "max": most, "holdSeconds": 5}
    wanted = values(scaling=scaling).with_floor(floor)
    for recorded in (rendered(), rendered(replicas=0), rendered(scaling={"max": 1})):
        made = live_ray_service(OWNER, recorded, wanted)
        assert written_values(made) == wanted
        assert frozen(made) == frozen(recorded)
        (group,) = made["spec"]["rayClusterConfig"]["workerGroupSpecs"]
        assert (group["minReplicas"], group["maxReplicas"]) == (least, most)
        config = deployment(made)["autoscaling_config"]
        assert (config["min_replicas"], config["max_replicas"]) == (max(least, min(floor, most)), most)
        assert "initial_replicas" not in config, "Serve would go back to it at each in-place change"
        assert deployment(made)["user_config"]["hold_seconds"] == 5
        assert made["spec"]["excludeHeadPodFromServeSvc"] == (least > 0)
    fixed = live_ray_service(OWNER, rendered(scaling=scaling), values())
    assert deployment(fixed)["autoscaling_config"] == {"min_replicas": 1, "max_replicas": 1}


def test_a_rendering_with_scaling_is_what_is_in_place_at_first() -> None:
    recorded = rendered(scaling={"min": 0, "max": 2})
    assert live_ray_service(OWNER, recorded, values(scaling={"min": 0, "max": 2}))["spec"] == recorded["spec"]


def test_values_without_scaling_are_written_as_earlier_versions_did() -> None:
    notes = live_ray_service(OWNER, rendered(), values().with_floor(3))["metadata"]["annotations"]
    assert sorted(json.loads(notes[IN_PLACE])) == ["released", "replicas", "settings", "user_config"]


def deployment(ray_service: dict[str, Any]) -> dict[str, Any]:
    (found,) = yaml.safe_load(ray_service["spec"]["serveConfigV2"])["applications"][0]["deployments"]
    return dict(found)


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
    for operation in cluster_patch(live, wanted.bounds, pods, released=wanted.released):
        key = operation["path"].rpartition("/")[2]
        if operation["op"] == "add":
            group[key] = operation["value"]
    return group


def test_bounds_that_fit_need_no_patch() -> None:
    assert cluster_patch(cluster(2, 2), (2, 2), ("a", "b")) == []


def test_more_replicas_raise_both_bounds() -> None:
    group = patched(cluster(1, 1), values(replicas=3), ("a",))
    assert (group["minReplicas"], group["maxReplicas"], group["replicas"]) == (3, 3, 1)


def test_the_upper_bound_falls_only_when_the_pods_are_gone() -> None:
    assert patched(cluster(3, 3), values(replicas=1), ("a", "b", "c"))["maxReplicas"] == 3
    assert patched(cluster(1, 3), values(replicas=1), ("a",))["maxReplicas"] == 1


@pytest.mark.parametrize(("pods", "waiting", "most"), [("abcd", 1, 3), ("abc", 0, 3), ("ab", 0, 2), ("abcd", 3, 2)])
def test_the_upper_bound_follows_the_pods_that_have_nodes(pods: str, waiting: int, most: int) -> None:
    """So Ray's autoscaler ends those that never ran, and none that does."""
    operations = cluster_patch(cluster(4, 4), (2, 2), tuple(pods), waiting=waiting)
    assert {one["path"].rpartition("/")[2]: one["value"] for one in operations if one["op"] == "add"} == {
        "minReplicas": 2,
        "maxReplicas": most,
    }


@pytest.mark.parametrize(
    "wanted", [{"replicas": 3}, {"scaling": {"min": 2, "max": 4}}, {"scaling": {"min": 0, "max": 4}}]
)
def test_what_is_taken_back_bounds_serve_and_pods(wanted: dict[str, Any]) -> None:
    recorded = rendered(parallelism={"nodes": 2}, accelerator={"count": 8})
    held = values(**wanted).with_floor(3).within(TakenBack(1, 1000.5))
    made = live_ray_service(OWNER, recorded, held)
    assert written_values(made) == held
    assert held.taken_back == TakenBack(1, 1000.5)
    (group,) = made["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    fewest = min(1, wanted.get("scaling", {"min": 1})["min"])
    assert (group["minReplicas"], group["maxReplicas"]) == (2 * fewest, 2)
    assert deployment(made)["autoscaling_config"]["max_replicas"] == 1
    assert frozen(made) == frozen(recorded)
    again = live_ray_service(OWNER, recorded, held.within(None))
    assert again == live_ray_service(OWNER, recorded, values(**wanted).with_floor(3))


def test_a_failed_revision_loses_its_workers_by_name() -> None:
    released = InPlace(1, {}, "", released=True)
    group = patched(cluster(1, 1), released, ("a",))
    assert (group["maxReplicas"], group["replicas"]) == (0, 0)
    assert group["scaleStrategy"] == {"workersToDelete": ["a"]}


@given(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4), st.integers(0, 4))
def test_bounds_never_cross(low: int, extra: int, wanted: int, pods: int) -> None:
    names = tuple(map(str, range(pods)))
    for asked in (values(replicas=wanted), values(scaling={"min": wanted, "max": wanted + 1})):
        group = patched(cluster(low, low + extra), asked, names)
        assert group["minReplicas"] <= group["maxReplicas"]
        assert group["replicas"] == 1, "the autoscaler's"


def test_what_the_server_adds_is_no_difference_but_what_is_missing_is() -> None:
    wanted = {"spec": {"ports": [{"port": 80}], "type": "ClusterIP", "empty": "", "none": []}}
    live = {"spec": {"ports": [{"port": 80, "protocol": "TCP"}], "type": "ClusterIP", "clusterIP": "10.0.0.1"}}
    assert covers(live, wanted)
    assert not covers({"spec": {**live["spec"], "type": "NodePort"}}, wanted)
    assert not covers({"spec": {**live["spec"], "ports": []}}, wanted)
    assert not covers({"spec": {"type": "ClusterIP"}}, wanted)
    assert not covers({"spec": {**live["spec"], "none": [1]}}, wanted)


@pytest.mark.parametrize("field", ["selector", "podSelector"])
def test_a_selector_has_to_be_the_wanted_one_as_a_whole(field: str) -> None:
    wanted = {"spec": {field: {"revision": "a"}, "ports": [{"port": 80}]}}
    assert covers(wanted, wanted)
    assert not covers({"spec": {**wanted["spec"], field: {"revision": "a", "app": "mine"}}}, wanted)


def test_a_record_with_a_fixed_count_keeps_its_form_until_it_scales() -> None:
    """To change it restarts replicas: what is recorded since has bounds from the start."""
    recorded = rendered()
    config = recorded["spec"]["serveConfigV2"]
    bounds = "    autoscaling_config:\n      min_replicas: 1\n      max_replicas: 1\n"
    assert bounds in config
    recorded["spec"]["serveConfigV2"] = config.replace(bounds, "    num_replicas: 1\n")
    kept = deployment(live_ray_service(OWNER, recorded, values(replicas=3)))
    assert (kept["num_replicas"], kept.get("autoscaling_config")) == (3, None)
    for moved in (values(replicas=0), values(scaling={"min": 1, "max": 4})):
        assert "num_replicas" not in deployment(live_ray_service(OWNER, recorded, moved))


@pytest.mark.parametrize("recorded", [{"scaling": {"min": 1, "max": 4}}, {"replicas": 0}])
def test_what_runs_decides_the_form_and_not_its_record(recorded: dict[str, Any]) -> None:
    """An earlier operator wrote `num_replicas` over either record; another form would restart what runs."""
    record = rendered(**recorded)
    live = live_ray_service(OWNER, record, values(replicas=2))
    bounds = "    autoscaling_config:\n      min_replicas: 2\n      max_replicas: 2\n"
    assert bounds in live["spec"]["serveConfigV2"]
    live["spec"]["serveConfigV2"] = live["spec"]["serveConfigV2"].replace(bounds, "    num_replicas: 2\n")
    kept = live_ray_service(OWNER, record, values(replicas=2), live=live)
    assert deployment(kept)["num_replicas"] == 2
    for spoilt in ("", "[]", "applications: 3", ":", "[" * 100_000, "- " * 100_000):
        live["spec"]["serveConfigV2"] = spoilt
        assert "num_replicas" not in deployment(live_ray_service(OWNER, record, values(replicas=2), live=live))


def test_bounds_count_the_pods_of_all_nodes() -> None:
    recorded = rendered(replicas=1, parallelism={"nodes": 2}, accelerator={"count": 8})
    made = live_ray_service(OWNER, recorded, values(replicas=3))
    (group,) = made["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    assert (group["minReplicas"], group["maxReplicas"]) == worker_bounds(recorded, values(replicas=3)) == (6, 6)
    assert deployment(made)["autoscaling_config"] == {"min_replicas": 3, "max_replicas": 3}
    assert frozen(made) == frozen(recorded)
    assert pods_per_replica(rendered()) == 1


def test_what_is_changed_is_tested_first_as_it_was_read() -> None:
    """The autoscaler and people write there too."""
    operations = cluster_patch(cluster(1, 1), (3, 3), ())
    tested = {one["path"].rpartition("/")[2]: one["value"] for one in operations if one["op"] == "test"}
    assert tested == {"groupName": "worker", "minReplicas": 1, "maxReplicas": 1}


@pytest.mark.parametrize(
    "edit",
    [
        {"replicas": "three"},
        {"replicas": None},
        {"scaling": {"max": -1}},
        {"user_config": 1},
        {"at_most": -1},
        {"at_most_since": "noon"},
        {"at_most_since": -1},
        {"at_most_since": 1e300},
        {"at_most_since": float("inf")},
        {"at_most_since": float("nan")},
    ],
)
def test_values_that_somebody_has_spoilt_are_none(edit: dict[str, Any]) -> None:
    """They are written anew then; a pass that failed over them would never end."""
    made = live_ray_service(OWNER, rendered(), values())
    notes = made["metadata"]["annotations"]
    notes[IN_PLACE] = json.dumps({**json.loads(notes[IN_PLACE]), **edit})
    assert written_values(made) is None


def test_brackets_without_an_end_are_no_values() -> None:
    assert written_values({"metadata": {"annotations": {IN_PLACE: "[" * 100_000}}}) is None


def test_requests_that_a_head_goes_on_holding_do_not_wait_for_ever() -> None:
    """spec.scaling is gone, and with it how long they may."""
    held = values().with_floor(0, holding=True)
    assert (held.holds, held.user_config["hold_seconds"]) == (True, HOLD_SECONDS)
    assert "hold_seconds" not in values().with_floor(0).user_config


@pytest.mark.parametrize("holding", [True, False])
def test_the_head_stays_in_the_service_while_it_holds(holding: bool) -> None:
    made = live_ray_service(OWNER, rendered(), values(scaling={"min": 1, "max": 2}).with_floor(0, holding=holding))
    assert made["spec"]["excludeHeadPodFromServeSvc"] is not holding
    assert (written_values(made) or values()).holding is holding
