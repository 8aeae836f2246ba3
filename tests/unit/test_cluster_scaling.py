"""What is read of replicas that come and go, and what status says of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
from unit.api_objects import endpoint

from sglang_operator.api import parse_endpoint
from sglang_operator.cluster import observe as observing
from sglang_operator.cluster.ends import Ends
from sglang_operator.cluster.in_place import in_place_of, live_ray_service
from sglang_operator.cluster.logs import Said
from sglang_operator.cluster.metadata import Owner
from sglang_operator.cluster.observe import View, observe
from sglang_operator.cluster.probe import Answers, Held, Report
from sglang_operator.cluster.records import read_record
from sglang_operator.cluster.snapshot import Snapshot
from sglang_operator.cluster.status import Facts, conditions, status_of
from sglang_operator.cluster.types import Key
from sglang_operator.lifecycle.observed import Front, Probe, TakenBack
from sglang_operator.lifecycle.reasons import Condition, ConditionType, Reason, Status
from sglang_operator.render import render_endpoint

OWNER = Owner(Key("default", "qwen3"), "uid-1")
AT = "2026-01-01T00:00:{:02d}Z"
NOON = 1767225600.0  # AT, Unix
SLEEPY = parse_endpoint(endpoint(scaling={"min": 0, "max": 3}))
RAY_SERVICE = next(item for item in render_endpoint(SLEEPY) if item["kind"] == "RayService")
NAME = RAY_SERVICE["metadata"]["name"]

_LISTEN = observing._listen  # as it is, before the fixture below replaces it


class Asked:
    """The prober's part: which replicas answer, and what the head holds."""

    def __init__(
        self,
        replicas: int = 0,
        held: int | None = 0,
        target: int | None = None,
        commit: str = "",
        wished_seconds: float = 0.0,
    ) -> None:
        self.replicas, self.held, self.target, self.commit = replicas, held, target, commit
        self.wished_seconds = wished_seconds

    async def ask(self, addresses: tuple[str, ...], *, generate: bool) -> Answers:
        answering = enumerate(addresses[: self.replicas])
        reports = tuple(Report(f"r{n}", address, "", 0, 5.0, commit=self.commit) for n, address in answering)
        return Answers(Probe.ANSWERED, reports) if reports else Answers()

    async def ask_head(self, address: str) -> Held | None:
        assert address == "10.0.0.9"
        return None if self.held is None else Held(self.held, 7.0, self.target, self.wished_seconds)


def pod(kind: str, ip: str, ready_after: int | None = 0, serves: str = "true") -> dict[str, Any]:
    labels = {"serve.sglang.io/revision": NAME, "ray.io/node-type": kind, "ray.io/serve": serves}
    ready = {"type": "Ready", "status": "False" if ready_after is None else "True"}
    return {
        "metadata": {"name": ip, "labels": labels, "creationTimestamp": AT.format(0)},
        "status": {"podIP": ip, "conditions": [{**ready, "lastTransitionTime": AT.format(ready_after or 0)}]},
    }


HEAD = pod("head", "10.0.0.9")
WORKER = pod("worker", "10.0.0.1", ready_after=42)


def seen(
    *pods: dict[str, Any], target: int, asked: Asked | None = None, status: Mapping[str, Any] | None = None
) -> tuple[View, dict[str, Any]]:
    """What a pass makes of these pods, and its status."""
    values = in_place_of(SLEEPY, "digest")
    live = live_ray_service(OWNER, RAY_SERVICE, values)
    live["metadata"] |= {"uid": "uid-2", "creationTimestamp": AT.format(0)}
    cluster = {
        "metadata": {"name": "c", "labels": {"serve.sglang.io/revision": NAME}, "creationTimestamp": AT.format(45)},
        "spec": {"workerGroupSpecs": [{"groupName": "worker", "replicas": target}]},
    }
    service = {"metadata": {"resourceVersion": "1", "annotations": {"serve.sglang.io/serving": NAME}}}
    record = {
        "metadata": {"name": NAME},
        "revision": 1,
        "data": {"fields": {}, "written": [], "rayService": RAY_SERVICE},
    }
    snapshot = Snapshot(
        endpoint={"metadata": {"name": "qwen3"}, "spec": {}, "status": status or {}},
        records=(read_record(record),),
        ray_services=(live,),
        ray_clusters=(cluster,),
        pods=pods,
        service=service,
    )
    view = asyncio.run(observe(None, asked or Asked(), snapshot, NAME, NOON + 50))  # type: ignore[arg-type]
    return view, status_of(Facts(SLEEPY, view, snapshot.records, NAME, status or {}, NOON + 50))


@pytest.fixture(autouse=True)
def _no_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: object) -> Said:
        return Said()

    monkeypatch.setattr(observing, "_listen", nothing)


def test_the_commit_that_replicas_serve() -> None:
    serving = seen(HEAD, WORKER, target=1, asked=Asked(1, commit="1" * 40))[1]["serving"]
    assert serving["modelCommit"] == "1" * 40
    assert "modelCommit" not in seen(HEAD, WORKER, target=1, asked=Asked(1))[1]["serving"]


def test_the_commit_is_known_while_no_replica_answers() -> None:
    before = {"serving": {"revision": NAME, "modelCommit": "1" * 40}}
    assert seen(HEAD, target=0, status=before)[1]["serving"]["modelCommit"] == "1" * 40
    other = seen(HEAD, WORKER, target=1, asked=Asked(1, commit="2" * 40), status=before)[1]
    assert other["serving"]["modelCommit"] == "2" * 40
    before["serving"]["revision"] = "another"
    assert "modelCommit" not in seen(HEAD, target=0, status=before)[1]["serving"]


def test_at_zero() -> None:
    view, status = seen(HEAD, target=0)
    revision = view.observed.get(NAME)
    assert revision.asleep
    assert revision.live.front == Front(0, quiet_since=NOON + 43)
    assert (status["desiredReplicas"], status["readyReplicas"], status["atZeroSince"]) == (0, 0, AT.format(50))
    assert seen(HEAD, target=0, status={"atZeroSince": AT.format(10)})[1]["atZeroSince"] == AT.format(10)


def test_at_zero_its_last_pod_may_still_be_there() -> None:
    view, status = seen(HEAD, WORKER, target=1, asked=Asked(target=0))
    assert view.observed.get(NAME).asleep
    assert (status["desiredReplicas"], status["replicas"]) == (0, 1)


def test_requests_that_are_held_keep_it() -> None:
    front = seen(HEAD, target=1, asked=Asked(held=3))[0].observed.get(NAME).live.front
    assert front == Front(3, quiet_since=None)


@pytest.mark.parametrize("head", [pod("head", "10.0.0.9", serves="false"), pod("head", "10.0.0.9", ready_after=None)])
def test_a_head_that_does_not_serve_holds_nothing(head: dict[str, Any]) -> None:
    view, status = seen(head, target=0)
    assert not view.observed.get(NAME).asleep
    assert "atZeroSince" not in status


def test_it_wakes_from_the_wish_for_a_replica_on() -> None:
    """Ray's autoscaler comes to it seconds later, and only then there is a pod; or it never comes."""
    before = {"atZeroSince": AT.format(0)}
    wished = Asked(target=1, wished_seconds=4)
    view, status = seen(HEAD, target=0, asked=wished, status=before)
    assert view.observed.get(NAME).live.waking_since == NOON + 46
    assert status["atZeroSince"] == AT.format(0)
    assert seen(HEAD, target=1, asked=wished, status=before)[0].observed.get(NAME).live.waking_since is None
    assert seen(HEAD, target=0, asked=wished)[0].observed.get(NAME).live.waking_since is None, "it has not slept"


def test_waking_is_known_from_having_slept() -> None:
    loading = pod("worker", "10.0.0.1", ready_after=None)
    before = {"atZeroSince": AT.format(0)}
    view, status = seen(HEAD, loading, target=1, status=before)
    assert view.observed.get(NAME).live.waking_since == NOON
    assert status["atZeroSince"] == AT.format(0)
    view, _ = seen(HEAD, loading, target=1, status={"atZeroSince": AT.format(9)})  # its pod was still there
    assert view.observed.get(NAME).live.waking_since == NOON + 9
    assert seen(HEAD, loading, target=1)[0].observed.get(NAME).live.waking_since is None


def test_awake_it_says_how_long_that_took() -> None:
    before = {"atZeroSince": AT.format(0), "lastWakeSeconds": 99}
    view, status = seen(HEAD, WORKER, target=2, asked=Asked(replicas=1), status=before)
    assert view.observed.get(NAME).live.waking_since is None
    assert (status["desiredReplicas"], status["lastWakeSeconds"]) == (2, 50)
    assert "atZeroSince" not in status
    slept_later = {"atZeroSince": AT.format(9), "lastWakeSeconds": 42}  # its old pod was still there
    assert seen(HEAD, WORKER, target=1, asked=Asked(replicas=1), status=slept_later)[1]["lastWakeSeconds"] == 42
    kept = seen(HEAD, WORKER, target=1, asked=Asked(replicas=1), status={"lastWakeSeconds": 42})[1]
    assert kept["lastWakeSeconds"] == 42


@pytest.mark.parametrize(("again", "progress"), [(None, 48), (46.0, 46)])
def test_workers_that_end_again_and_again_make_no_progress(
    monkeypatch: pytest.MonkeyPatch, again: float | None, progress: int
) -> None:
    async def ends(*_: object) -> Ends:
        return Ends(again=None if again is None else NOON + again)

    monkeypatch.setattr(observing, "read_ends", ends)
    head, begun = pod("head", "10.0.0.9", serves="false"), pod("worker", "10.0.0.1", ready_after=48)
    found = seen(head, begun, target=1)[0].observed.get(NAME).live.progress
    assert found is not None
    assert found == NOON + progress


@pytest.mark.parametrize(
    ("pods", "target", "replicas", "slept"),
    [
        pytest.param([pod("worker", "10.0.0.1", ready_after=None)], 1, 0, AT.format(0), id="wakes"),
        pytest.param([WORKER, pod("worker", "10.0.0.2", ready_after=None)], 2, 1, None, id="grows"),
        pytest.param([pod("worker", "10.0.0.1", ready_after=None)], 1, 0, None, id="recovers"),
    ],
)
def test_how_far_missing_replicas_are_is_told(
    monkeypatch: pytest.MonkeyPatch, pods: list[dict[str, Any]], target: int, replicas: int, slept: str | None
) -> None:
    async def load(*_: object) -> Said:
        return Said("model", "downloaded 3.1 of 14.2 GB")

    monkeypatch.setattr(observing, "_listen", load)
    before = {"atZeroSince": slept} if slept else {}
    status = seen(HEAD, *pods, target=target, asked=Asked(replicas=replicas), status=before)[1]
    told = {"revision": NAME, "step": "model", "progress": "downloaded 3.1 of 14.2 GB"}
    assert status["updating"].items() >= told.items()


def test_with_all_replicas_nothing_is_on_its_way() -> None:
    assert "updating" not in seen(HEAD, WORKER, target=1, asked=Asked(replicas=1))[1]
    assert "updating" not in seen(HEAD, target=0)[1]


def test_the_log_that_is_read_is_of_the_replica_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def log(_api: object, asked: Mapping[str, Any]) -> str:
        return json.dumps({"time": AT.format(1), "event": "progress", "step": asked["metadata"]["name"]})

    monkeypatch.setattr(observing, "read_log", log)
    placed = {"spec": {"nodeName": "n"}}
    pods = [WORKER | placed, pod("worker", "10.0.0.2", ready_after=None) | placed]
    for one in pods:
        one["status"] = {**one["status"], "phase": "Running"}
    assert asyncio.run(_LISTEN(None, pods)).step == "10.0.0.2"  # type: ignore[arg-type]


@pytest.mark.parametrize(("pods", "half"), [(2, None), (3, NOON + 30)])
def test_half_a_replica_is_seen(monkeypatch: pytest.MonkeyPatch, pods: int, half: float | None) -> None:
    monkeypatch.setattr(observing, "_pods_per_replica", lambda *_: 2)
    live = seen(*(on_a_node(10 * number) for number in range(1, pods + 1)), target=2)[0].observed.revisions[0].live
    assert (live.placed, live.half_placed_since, live.half_placed) == (1, half, half is not None)


def on_a_node(second: int) -> dict[str, Any]:
    found = pod("worker", f"10.0.0.{second}", ready_after=None)
    found["status"]["phase"] = "Running"
    said = {"type": "PodScheduled", "status": "True", "lastTransitionTime": AT.format(second)}
    found["status"]["conditions"].append(said)
    return found | {"spec": {"nodeName": "n"}}


def test_the_next_try_is_told_in_words() -> None:
    found = Condition(ConditionType.DEGRADED, Status.TRUE, Reason.NO_CAPACITY, "gave them back", again_at=NOON + 1.5)
    (told,) = conditions(NOON, 1, [found], ())
    assert told["message"] == f"gave them back; it is tried again at {AT.format(1)}"


@pytest.mark.parametrize(("taken", "target"), [(None, 3), (TakenBack(2, NOON), 2)])
def test_what_is_taken_back_is_not_needed_now(taken: TakenBack | None, target: int) -> None:
    workers = observing._Workers((), (), (), 1, Answers(), Said())
    clusters = [{"spec": {"workerGroupSpecs": [{"replicas": 3}]}}]
    for spec in ({"scaling": {"min": 0, "max": 3}}, {"replicas": 3}):
        values = in_place_of(parse_endpoint(endpoint(**spec)), "digest").within(taken)
        assert observing._target(values, clusters, workers) == target


@pytest.mark.parametrize(
    ("head", "holds", "may_hold"),
    [
        (HEAD, True, True),
        (pod("head", "10.0.0.9", serves="false"), False, True),
        (pod("head", "10.0.0.9", None), False, False),
    ],
    ids=["in the Service", "taken out after one failed check", "not Ready"],
)
def test_a_head_that_kuberay_takes_out_for_a_moment_may_hold_requests(
    head: dict[str, Any], holds: bool, may_hold: bool
) -> None:
    live = seen(head, target=0)[0].sights[NAME].revision.live
    assert (live.holds, live.may_hold, live.may_hold_requests) == (holds, may_hold, may_hold)
