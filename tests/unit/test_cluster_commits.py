"""What a branch of the hub is for a revision: noted once, told to every Ray cluster of it, and to nothing else."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from unit.api_objects import endpoint
from unit.test_cluster_in_place import OWNER, deployment, frozen, rendered, values

from sglang_operator.api import parse_endpoint
from sglang_operator.cluster.commits import found_commits
from sglang_operator.cluster.in_place import InPlace, live_ray_service, takes_commit, written_values
from sglang_operator.cluster.observe import Sight, View
from sglang_operator.cluster.probe import Answers, Report
from sglang_operator.cluster.records import MODEL_COMMIT, StoredRevision, new_record, note_commit, read_record
from sglang_operator.cluster.snapshot import Snapshot
from sglang_operator.cluster.writer import Writer
from sglang_operator.lifecycle.observed import NOTHING, Observed, Probe, Revision
from sglang_operator.render.serve_config import live_args
from sglang_serve import args

FIRST, SECOND = "1" * 40, "2" * 40
V0_1 = json.loads((Path(__file__).parent / "data" / "records-v0.1.json").read_text())
PINNED = {"model": {"uri": "hf://org/name", "revision": FIRST}}
ON_CLAIM = {"model": {"uri": "pvc://claim/name"}}
Json = dict[str, Any]


def told(ray_service: Json) -> Any:
    """What its replicas start with."""
    return args.live_args(deployment(ray_service)["user_config"]).model_commit


def stored(notes: Json | None = None, **spec: Any) -> StoredRevision:
    record = json.loads(json.dumps(new_record(OWNER, 1, parse_endpoint(endpoint(**spec)), rendered(**spec))))
    record["metadata"]["annotations"] = notes or {}
    return read_record(record)


def found(one: StoredRevision, *commits: str, made: bool = True, **metadata: str) -> dict[str, str]:
    """What replicas that report these commits add to the record."""
    reports = tuple(Report(f"r{n}", "10.0.0.1", "", 0, 5.0, commit=commit) for n, commit in enumerate(commits))
    sight = Sight(Revision(one.name), answers=Answers(Probe.ANSWERED, reports))
    live = ({"metadata": {"name": one.name, **metadata}},) if made else ()
    view = View(Observed((), NOTHING), {one.name: sight} if commits else {})
    return dict(found_commits(Snapshot(endpoint={}, records=(one,), ray_services=live), view))


def test_the_first_commit_is_found_and_no_other_one() -> None:
    one = stored()
    assert found(one, FIRST, FIRST) == {one.name: FIRST}
    assert found(stored({MODEL_COMMIT: FIRST}), SECOND) == {}


def test_nothing_is_found_while_nothing_is_said() -> None:
    assert found(stored()) == found(stored(), "") == found(stored(), "main") == {}


def test_two_ray_clusters_that_do_not_agree_leave_it_open() -> None:
    assert found(stored(), FIRST, SECOND) == {}


def test_pods_of_an_earlier_endpoint_of_the_same_name_tell_nothing() -> None:
    """They may drain while the record is there and its RayService is not."""
    assert found(stored(), FIRST, made=False) == {}
    assert found(stored(), FIRST, deletionTimestamp="2026-01-01T00:00:00Z") == {}


def test_a_commit_that_the_user_has_written_is_no_branch() -> None:
    assert found(stored(**PINNED), FIRST) == {}


def test_the_record_keeps_it() -> None:
    assert (stored().commit, stored(note_commit(FIRST)).commit) == ("", FIRST)


@pytest.mark.parametrize("text", ["", "main", FIRST[1:], f"{FIRST}1", "A" * 40])
def test_what_somebody_writes_there_that_is_no_commit_is_found_out_again(text: str) -> None:
    one = stored({MODEL_COMMIT: text})
    assert one.commit == ""
    assert found(one, SECOND) == {one.name: SECOND}


@pytest.mark.parametrize(("spec", "place"), [({}, ""), (PINNED, None), (ON_CLAIM, None)])
def test_only_a_branch_has_a_place_for_it(spec: Json, place: str | None) -> None:
    recorded = rendered(**spec)
    assert (told(recorded), takes_commit(recorded)) == (place, place is not None)
    assert told(live_ray_service(OWNER, recorded, values(**spec), FIRST)) == (None if place is None else FIRST)


def test_it_changes_no_setting_of_the_endpoint() -> None:
    """`config_id` tells the operator that replicas have the spec's settings."""
    config_id = live_args(parse_endpoint(endpoint())).config_id
    assert deployment(rendered())["user_config"]["config_id"] == config_id
    made = live_ray_service(OWNER, rendered(), values(), FIRST)
    assert deployment(made)["user_config"]["config_id"] == config_id
    assert written_values(made) == values()


def test_as_long_as_it_is_unknown_the_recorded_bytes_stay() -> None:
    assert live_ray_service(OWNER, rendered(), values())["spec"] == rendered()["spec"]


@given(st.integers(0, 3), st.integers(0, 3), st.booleans())
def test_nothing_that_restarts_a_replica_moves_with_it(before: int, after: int, scaled: bool) -> None:
    recorded = rendered(replicas=before)
    spec: Json = {"scaling": {"min": after, "max": 4}} if scaled else {"replicas": after}
    plain, made = (live_ray_service(OWNER, recorded, values(**spec), commit) for commit in ("", FIRST))
    assert frozen(plain) == frozen(made) == frozen(recorded)
    assert made["spec"]["rayClusterConfig"] == plain["spec"]["rayClusterConfig"]
    assert {**deployment(made), "user_config": deployment(plain)["user_config"]} == deployment(plain)


@given(st.sampled_from(["", FIRST]), st.integers(0, 3), st.integers(0, 1))
def test_what_was_written_is_not_written_again(commit: str, replicas: int, floor: int) -> None:
    """By the memory on the RayService itself: that has keys in another order."""
    wanted = values(replicas=replicas).with_floor(floor, holding=bool(floor))
    made = live_ray_service(OWNER, rendered(), wanted, commit)
    again = live_ray_service(OWNER, rendered(), written_values(made) or InPlace(0, {}, ""), commit)
    assert again == made


class Cluster:
    """One record and its RayService; keeps what is written."""

    def __init__(self) -> None:
        record = json.loads(json.dumps(new_record(OWNER, 1, parse_endpoint(endpoint()), rendered())))
        record["metadata"] |= {"uid": "uid-2", "resourceVersion": "1", "annotations": {}}
        service = json.loads(json.dumps(live_ray_service(OWNER, rendered(), values())))
        service["metadata"] |= {"uid": "uid-3"}
        self.record: Json = record
        self.service: Json = service
        self.written: list[str] = []

    async def patch(self, path: str, body: Json) -> Json:
        """Of the record."""
        assert path.endswith(self.record["metadata"]["name"])
        assert (body["metadata"].pop("uid"), body["metadata"].pop("resourceVersion")) == ("uid-2", "1")
        self.record["metadata"]["annotations"] |= body["metadata"]["annotations"]
        self.written.append("record")
        return self.record

    async def apply(self, path: str, body: Json) -> Json:
        """Of the RayService."""
        assert path.endswith(self.service["metadata"]["name"])
        self.service = json.loads(json.dumps(body))
        self.written.append("RayService")
        return self.service

    def keep(self, commits: Json) -> list[str]:
        """What a pass with nothing to plan writes."""
        snapshot = Snapshot(endpoint={}, records=(read_record(self.record),), ray_services=(self.service,))
        writer = Writer(self, OWNER, snapshot, (), values())  # type: ignore[arg-type]

        async def work() -> None:
            await writer.freeze(commits)
            await writer.repair()

        self.written.clear()
        asyncio.run(work())
        return list(self.written)


def test_the_record_comes_first_and_then_the_replicas_are_told_once() -> None:
    cluster = Cluster()
    name = cluster.service["metadata"]["name"]
    pods = cluster.service["spec"]["rayClusterConfig"]
    assert cluster.keep({}) == []
    assert cluster.keep({name: FIRST}) == ["record", "RayService"]
    assert (read_record(cluster.record).commit, told(cluster.service)) == (FIRST, FIRST)
    assert cluster.service["spec"]["rayClusterConfig"] == pods
    assert cluster.keep({}) == []


def test_replicas_that_were_not_told_are_told_by_the_next_pass() -> None:
    """The operator ended between the two writes."""
    cluster = Cluster()
    cluster.record["metadata"]["annotations"] = note_commit(FIRST)
    assert cluster.keep({}) == ["RayService"]
    assert told(cluster.service) == FIRST


@pytest.mark.parametrize("name", V0_1)
def test_an_image_from_before_is_told_nothing(name: str) -> None:
    record = V0_1[name]["record"]
    one = read_record({**record, "metadata": {**record["metadata"], "annotations": note_commit(FIRST)}})
    made = live_ray_service(OWNER, one.ray_service, values(), one.commit)
    assert FIRST not in yaml.safe_dump(made)
    assert not takes_commit(one.ray_service)
