"""Rollouts of endpoints whose number of replicas follows the requests, down to none."""

from __future__ import annotations

from dataclasses import replace

import pytest
from unit.lifecycle_place import LOAD_SECONDS
from unit.lifecycle_world import World, edit, kinds, started

from sglang_operator.lifecycle import decide
from sglang_operator.lifecycle.observed import Live, Observed, Presence, Record, Revision, Selection
from sglang_operator.lifecycle.reasons import Condition, ConditionType, Reason, Status
from sglang_operator.lifecycle.wanted import Bounds, UpgradePolicy, Wanted

HOLD = 100.0
ASLEEP = Live(Presence.PRESENT, "uid-a", pods=1, target_replicas=0, holds=True, progress=0.0)
WAKING = replace(ASLEEP, pods=2, worker_pods=1, target_replicas=1, waking_since=1000.0, progress=1000.0)
SLEEPY = Wanted("a", replicas=Bounds(0, 3), hold=HOLD)


def autoscaled(least: int, demand: int, **policy: float) -> World:
    """Revision `a` serves, with as many replicas as the requests need."""
    world = started(UpgradePolicy(**policy))  # type: ignore[arg-type]
    scaled = replace(world.wanted, replicas=Bounds(least, 4), hold=HOLD, settings="scaled")
    world.wanted, world.demand = scaled, demand
    world.run(2 * LOAD_SECONDS)
    return world


def ready(world: World) -> tuple[Status, Reason]:
    return next((one.status, one.reason) for one in world.plan().conditions if one.type is ConditionType.READY)


def conditions(live: Live, now: float = 1050.0) -> dict[ConditionType, tuple[Status, Reason]]:
    return {kind: (one.status, one.reason) for kind, one in found(live, now).items()}


def found(live: Live, now: float = 1050.0) -> dict[ConditionType, Condition]:
    observed = Observed((Revision("a", Record(1), live),), Selection("a"))
    return {one.type: one for one in decide(SLEEPY, observed, now).conditions}


def test_a_new_revision_starts_with_the_replicas_that_are_needed_now() -> None:
    world = autoscaled(least=1, demand=3)
    edit(world, "b")
    world.settle()
    assert world.live["b"].floor == 3
    world.run(2 * LOAD_SECONDS)  # World.check_size looks at the switch
    assert world.service.revision == "b"


def test_the_need_is_followed_while_it_starts() -> None:
    world = autoscaled(least=1, demand=2)
    edit(world, "b")
    world.run(20)
    world.demand = 4
    world.run(20)
    assert world.live["b"].floor == 4
    world.run(200)
    assert world.service.revision == "b"


def test_it_keeps_them_until_the_earlier_one_is_gone() -> None:
    world = autoscaled(least=1, demand=3)
    edit(world, "b")
    world.stuck.add("a")  # a long answer
    world.run(200)
    assert (world.service.revision, world.live["b"].floor) == ("b", 3)
    world.stuck.clear()
    world.run(200)
    assert set(world.live) == {"b"}
    assert world.live["b"].floor == 0


def test_what_traffic_may_go_back_to_keeps_them_too() -> None:
    world = autoscaled(least=0, demand=3, min_ready=300)
    edit(world, "b")
    world.run(200)
    assert (world.service.revision, world.live["a"].target) == ("b", 3)
    world.broken.add("b")
    world.settle()
    assert world.service.revision == "a"


def test_what_sleeps_is_replaced_by_one_that_wakes_once() -> None:
    world = autoscaled(least=0, demand=0)
    assert world.sleeps("a")
    assert ready(world) == (Status.TRUE, Reason.AT_ZERO)
    edit(world, "b")
    done = list(kinds(world.run(300)))
    assert ("SwitchService", "b") in done
    assert world.sleeps("b")
    assert set(world.live) == {"b"}
    assert not world.plan().actions


def test_what_slept_while_it_drained_can_be_gone_back_to() -> None:
    world = autoscaled(least=0, demand=0)
    world.stuck.add("a")
    edit(world, "b")
    world.run(200)
    assert (world.service.revision, world.sleeps("a")) == ("b", True)
    edit(world, "a")
    world.run(2 * LOAD_SECONDS)
    assert world.service.revision == "a"
    assert world.records["a"].failure is None, "it was not asked for until then"


def test_while_it_sleeps_no_deadline_counts() -> None:
    """Nor does that time count afterwards: see test_cluster_deadlines."""
    assert Revision("a", Record(1), ASLEEP).is_excused
    assert not Revision("a", Record(1), WAKING).is_excused


@pytest.mark.parametrize("kind", [ConditionType.PROGRESSING, ConditionType.DEGRADED])
@pytest.mark.parametrize("live", [ASLEEP, WAKING], ids=["asleep", "waking"])
def test_sleep_is_no_trouble(live: Live, kind: ConditionType) -> None:
    assert conditions(live)[kind][0] is Status.FALSE
    assert conditions(live)[ConditionType.READY][0] is Status.TRUE


def test_waking_counts_as_ready_for_as_long_as_requests_are_held() -> None:
    assert conditions(WAKING)[ConditionType.READY] == (Status.TRUE, Reason.WAKING)
    late = conditions(WAKING, now=1000.0 + HOLD)
    assert late[ConditionType.READY] == (Status.FALSE, Reason.NOT_SERVING)
    assert late[ConditionType.DEGRADED][0] is Status.TRUE
    lost = conditions(replace(WAKING, waking_since=None))  # it had a replica and lost it
    assert lost[ConditionType.READY] == (Status.FALSE, Reason.NOT_SERVING)


def test_without_a_head_that_holds_requests_it_does_not_sleep() -> None:
    assert conditions(replace(ASLEEP, holds=False))[ConditionType.READY] == (Status.FALSE, Reason.NOT_SERVING)


SERVING = replace(WAKING, waking_since=None, target_replicas=2, ready_replicas=1, answered=1)


def test_a_replica_that_ended_is_explained() -> None:
    ended = replace(SERVING, mishap="OutOfMemory: 3 GiB are missing")
    assert found(ended)[ConditionType.READY].message.endswith(
        "1 of 2 replicas; the last one ended: OutOfMemory: 3 GiB are missing"
    )
    alone = found(replace(ended, ready_replicas=0, target_replicas=1))
    for kind in (ConditionType.READY, ConditionType.PROGRESSING, ConditionType.DEGRADED):
        assert "OutOfMemory: 3 GiB" in alone[kind].message, kind


@pytest.mark.parametrize(
    ("ready", "redis", "told"),
    [
        (1, True, "replicas that run go on answering"),
        (0, True, "no replica is started"),
        (1, False, "all replicas end within a minute. With spec.highAvailability.redis"),
        (0, False, "nothing is served. With spec.highAvailability.redis"),
    ],
)
def test_a_lost_head_is_told(ready: int, redis: bool, told: str) -> None:
    lost = found(replace(SERVING, ready_replicas=ready, head_lost=True, holds=False, outlives_head=redis))
    assert lost[ConditionType.DEGRADED].reason is Reason.HEAD_LOST
    assert told in lost[ConditionType.DEGRADED].message


def test_what_holds_requests_is_not_ended_before_they_are_answered() -> None:
    world = autoscaled(least=0, demand=0)
    world.stuck.add("a")  # a request is held on its head
    edit(world, "b")
    world.run(300)
    assert world.service.revision == "b"
    assert "a" in world.live
    world.stuck.clear()
    world.run(100)
    assert "a" not in world.live


def test_ready_says_how_many_are_missing() -> None:
    some = Live(Presence.PRESENT, "uid-a", pods=3, worker_pods=2, ready_replicas=1, target_replicas=2)
    for live, text in ((some, "a answers with 1 of 2 replicas"), (replace(some, ready_replicas=2), "with 2 replicas")):
        found = decide(SLEEPY, Observed((Revision("a", Record(1), live),), Selection("a")), 1050.0).conditions
        assert next(one.message for one in found if one.type is ConditionType.READY).endswith(text)


def bound(world: World, least: int, greatest: int = 4) -> None:
    """As an edit of spec.scaling: it reaches running revisions in place."""
    settings = f"{least}-{greatest}"
    world.wanted = replace(world.wanted, replicas=Bounds(least, greatest), settings=settings)


@pytest.mark.parametrize("greatest", [4, 1], ids=["scaling.min: 1", "replicas: 1"])
def test_a_sleeping_head_holds_requests_until_the_replica_answers_that_it_shall_have(greatest: int) -> None:
    world = autoscaled(least=0, demand=0)
    assert world.sleeps("a")
    bound(world, 1, greatest)
    world.run(10)  # World.write asserts that something goes on answering
    assert (world.live["a"].holds, world.live["a"].holding, world.ready("a")) == (True, True, False)
    world.run(2 * LOAD_SECONDS)
    assert (world.live["a"].holds, world.live["a"].holding, world.ready("a")) == (False, False, True)
    assert not world.plan().actions


def test_one_failed_check_of_the_head_does_not_end_its_holding() -> None:
    """KubeRay takes it out of the Service after one, and puts it back seconds later."""
    world = autoscaled(least=0, demand=0)
    bound(world, 1, 4)
    world.run(10)
    seen = world.observe()
    flapped = tuple(replace(one, live=replace(one.live, holds=False, front=None)) for one in seen.revisions)
    assert decide(world.wanted, replace(seen, revisions=flapped), world.now).actions == ()


def test_an_endpoint_that_is_stopped_holds_nothing() -> None:
    world = autoscaled(least=0, demand=0)
    bound(world, 0, 0)
    world.run(10)
    assert not world.live["a"].holding
