"""A wake-up that fails, and one that an edit brings about: what a pass makes of it, and what is told."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from unit.api_objects import endpoint
from unit.test_cluster_scaling import AT, HEAD, NAME, NOON, OWNER, RAY_SERVICE, SLEEPY, Asked, pod

from sglang_operator.api import Endpoint, parse_endpoint
from sglang_operator.cluster import observe as observing
from sglang_operator.cluster.as_it_is import newest_wanted
from sglang_operator.cluster.ends import Ends
from sglang_operator.cluster.in_place import InPlace, in_place_of, live_ray_service
from sglang_operator.cluster.logs import Said
from sglang_operator.cluster.metadata import stamp
from sglang_operator.cluster.observe import View, observe
from sglang_operator.cluster.records import read_record
from sglang_operator.cluster.snapshot import Snapshot
from sglang_operator.cluster.status import Facts, status_of
from sglang_operator.lifecycle import decide, wanted_of
from sglang_operator.lifecycle.plan import ApplyInPlace, Plan
from sglang_operator.lifecycle.reasons import ConditionType, Reason

Json = dict[str, Any]
RECORD = read_record(
    {"metadata": {"name": NAME}, "revision": 1, "data": {"fields": {}, "written": [], "rayService": RAY_SERVICE}}
)
SERVICE = {"metadata": {"resourceVersion": "1", "annotations": {"serve.sglang.io/serving": NAME}}}
SLEPT: Json = {"atZeroSince": AT.format(0), "serving": {"revision": NAME}}
HOLD = 600.0  # spec.scaling.holdSeconds


@pytest.fixture(autouse=True)
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which events are read; no log is."""
    kinds: list[str] = []

    async def nothing(*_: object) -> Said:
        return Said()

    async def complaint(*_: object) -> str:
        kinds.append("complaints")
        return 'MountVolume.SetUp failed: secret "hf" not found'

    async def ends(*_: object) -> Ends:
        kinds.append("ends")
        return Ends()

    monkeypatch.setattr(observing, "_listen", nothing)
    monkeypatch.setattr(observing, "read_complaint", complaint)
    monkeypatch.setattr(observing, "read_ends", ends)
    return kinds


def loading(since: float) -> Json:
    """A worker that was made then and is not Ready."""
    made = pod("worker", "10.0.0.1", ready_after=None)
    made["metadata"]["creationTimestamp"] = stamp(NOON + since)
    made["status"]["conditions"][0]["lastTransitionTime"] = stamp(NOON + since)
    return made


def look(
    after: float,
    *pods: Json,
    asked: Asked,
    status: Mapping[str, Any] = SLEPT,
    spec: Endpoint = SLEEPY,
    written: InPlace | None = None,
) -> tuple[View, Plan, Json]:
    """A pass, so many seconds after it has fallen asleep."""
    live = live_ray_service(OWNER, RAY_SERVICE, written or in_place_of(SLEEPY, wanted_of(SLEEPY).settings))
    live["metadata"] |= {"uid": "uid-2", "creationTimestamp": stamp(NOON - 86_400)}
    labels = {"serve.sglang.io/revision": NAME}
    cluster = {
        "metadata": {"name": "c", "labels": labels, "creationTimestamp": stamp(NOON - 86_400)},
        "status": {"state": "ready"},
        "spec": {"workerGroupSpecs": [{"groupName": "worker", "replicas": len(pods)}]},
    }
    told = {"metadata": {"name": "qwen3"}, "spec": {}, "status": status}
    snapshot = Snapshot(
        told, (RECORD,), ray_services=(live,), ray_clusters=(cluster,), pods=(HEAD, *pods), service=SERVICE
    )
    view = asyncio.run(observe(None, asked, snapshot, NAME, NOON + after))  # type: ignore[arg-type]
    plan = decide(wanted_of(spec, NAME), view.observed, NOON + after)
    return view, plan, status_of(Facts(spec, view, snapshot.records, NAME, status, NOON + after))


def reasons(plan: Plan) -> dict[ConditionType, Reason]:
    return {one.type: one.reason for one in plan.conditions}


@pytest.mark.parametrize("replaced_at", [3.0, HOLD - 10])
def test_a_pod_in_the_place_of_another_begins_no_other_wake_up(replaced_at: float) -> None:
    """It is evicted, out of memory or on a lost node, again and again: requests are held since the first one came."""

    def ready(after: float) -> Reason:
        asked = Asked(held=9, target=1, wished_seconds=after - 1)
        return reasons(look(after, loading(replaced_at), asked=asked)[1])[ConditionType.READY]

    assert ready(HOLD) is Reason.WAKING
    assert ready(HOLD + 1) is Reason.NOT_SERVING


def test_a_head_that_does_not_say_since_when_leaves_it_to_the_pod() -> None:
    view, _, _ = look(50, loading(20), asked=Asked(held=1, target=1))
    assert view.observed.get(NAME).live.waking_since == NOON + 20


@pytest.mark.parametrize(
    ("target", "wished", "events"),
    [
        pytest.param(0, 0.0, [], id="asleep"),
        pytest.param(1, 5.0, [], id="it has just begun"),
        pytest.param(1, 6.0, ["complaints", "ends"], id="something may be in its way"),
        pytest.param(None, 20.0, ["complaints", "ends"], id="the controller is silent now"),
    ],
)
def test_why_a_wake_up_fails_is_read(read: list[str], target: int | None, wished: float, events: list[str]) -> None:
    pods = () if target == 0 else (loading(10),)
    _, plan, _ = look(50, *pods, asked=Asked(held=1, target=target, wished_seconds=wished))
    assert read == events
    degraded = next(one for one in plan.conditions if one.type is ConditionType.DEGRADED)
    assert (degraded.reason is Reason.PODS_BLOCKED) == bool(events)
    assert ('secret "hf" not found' in degraded.message) == bool(events)
    assert reasons(plan)[ConditionType.READY] is (Reason.WAKING if target != 0 else Reason.AT_ZERO)


@pytest.mark.parametrize("change", [{"scaling": {"min": 1, "max": 3}}, {"replicas": 1}], ids=["min: 1", "replicas: 1"])
def test_an_edit_that_wakes_it_is_no_outage(read: list[str], change: Json) -> None:
    """Its head goes on holding requests; that it slept has to be known until the replica answers."""
    spec, status, written = parse_endpoint(endpoint(**change)), SLEPT, None
    for after in range(50, 90, 10):
        pods = (loading(52),) if after > 50 else ()
        asked = Asked(held=3, target=len(pods), wished_seconds=float(after - 50))
        _, plan, status = look(after, *pods, asked=asked, status=status, spec=spec, written=written)
        for action in plan.actions:
            assert isinstance(action, ApplyInPlace)
            values = in_place_of(spec, action.settings)
            written = values.with_floor(action.floor, holding=action.holding)
        assert status["atZeroSince"] == AT.format(0), after
        assert reasons(plan)[ConditionType.READY] is (Reason.WAKING if pods else Reason.AT_ZERO), after
        assert reasons(plan)[ConditionType.DEGRADED] in (Reason.AS_EXPECTED, Reason.PODS_BLOCKED), after
    ready = pod("worker", "10.0.0.1", ready_after=42)
    ready["metadata"]["creationTimestamp"] = stamp(NOON + 52)
    _, plan, status = look(100, ready, asked=Asked(1, target=1), status=status, spec=spec, written=written)
    assert "atZeroSince" not in status
    assert [type(one) for one in plan.actions] == [ApplyInPlace], "its head holds nothing any more"


def test_nor_is_an_edit_after_it_that_is_not_understood() -> None:
    """Its number of replicas is fixed by now: that requests are held, and for how long, is known all the same."""
    one = parse_endpoint(endpoint(replicas=1))
    written = in_place_of(one, wanted_of(one).settings).with_floor(0, holding=True)
    asked = Asked(held=3, target=1, wished_seconds=8.0)
    view, plan, _ = look(60, loading(52), asked=asked, spec=one, written=written)
    known = newest_wanted(Snapshot({}, (RECORD,), ray_services=(live_ray_service(OWNER, RAY_SERVICE, written),)))
    assert known
    assert reasons(decide(known, view.observed, NOON + 60))[ConditionType.READY] is Reason.WAKING
    assert reasons(plan)[ConditionType.READY] is Reason.WAKING


def test_a_stopped_endpoint_that_is_started_is_not_overdue() -> None:
    """Its last progress was a day ago, when it was stopped."""
    stopped, one = (parse_endpoint(endpoint(replicas=replicas)) for replicas in (0, 1))
    written, asked = in_place_of(stopped, wanted_of(stopped).settings), Asked(held=None)
    done = {
        "type": "Progressing",
        "status": "False",
        "reason": "RolloutComplete",
        "lastTransitionTime": stamp(NOON + 9),
    }
    before = {"serving": {"revision": NAME}, "conditions": [done]}
    _, plan, status = look(86_400, asked=asked, status=before, spec=stopped, written=written)
    assert reasons(plan)[ConditionType.PROGRESSING] is Reason.COMPLETE
    _, plan, _ = look(86_401, asked=asked, status={**status, "conditions": [done]}, spec=one, written=written)
    assert reasons(plan)[ConditionType.DEGRADED] is Reason.PODS_BLOCKED, "as this test has it, and not overdue"
