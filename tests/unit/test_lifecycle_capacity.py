"""A replica of several pods that the scheduler has nodes for in part: it does not hold them for ever."""

from __future__ import annotations

from dataclasses import replace

import pytest
from unit.lifecycle_place import LOAD_SECONDS
from unit.lifecycle_world import edit, started

from sglang_operator.lifecycle import decide
from sglang_operator.lifecycle.growth import HELD_SECONDS
from sglang_operator.lifecycle.observed import (
    Live,
    Observed,
    Presence,
    Probe,
    Record,
    Revision,
    Selection,
    Unschedulable,
)
from sglang_operator.lifecycle.plan import (
    Action,
    CreateRevision,
    FreeAccelerators,
    RecordRevision,
    RememberFailure,
    Retire,
    StartDrain,
    TryRevision,
)
from sglang_operator.lifecycle.reasons import ConditionType, Reason
from sglang_operator.lifecycle.wanted import Strategy, UpgradePolicy, Wanted, WhenNoCapacity

TIMEOUT = 900.0
NEW = Wanted("b", policy=UpgradePolicy(capacity_timeout=TIMEOUT))
SERVING = Live(
    Presence.PRESENT,
    "uid-a",
    pods=2,
    worker_pods=1,
    ready_replicas=1,
    target_replicas=1,
    probe=Probe.ANSWERED,
    answered=1,
)
HALF = Live(
    Presence.PRESENT,
    "uid-b",
    pods=3,
    worker_pods=2,
    half_placed_since=0.0,
    unschedulable=Unschedulable(0.0, "0/2 nodes are available: 1 Insufficient nvidia.com/gpu."),
    progress=0.0,
)


def seen(new: Live, serving: str = "a") -> Observed:
    old = (Revision("a", Record(1), SERVING),) if serving else ()
    return Observed((*old, Revision("b", Record(2), new)), Selection(serving))


def actions(new: Live, now: float, serving: str = "a") -> list[type[Action]]:
    return [type(one) for one in decide(NEW, seen(new, serving), now).actions if getattr(one, "revision", "") == "b"]


@pytest.mark.parametrize("serving", ["a", ""])
def test_it_gives_its_nodes_back_after_the_capacity_time_out(serving: str) -> None:
    assert FreeAccelerators not in actions(HALF, TIMEOUT - 1, serving)
    assert FreeAccelerators in actions(HALF, TIMEOUT, serving)
    assert FreeAccelerators not in actions(replace(HALF, half_placed_since=None), TIMEOUT, serving), "it holds none"


@pytest.mark.parametrize("serving", ["a", ""])
def test_whatever_the_time_out_pods_have_a_minute_to_get_their_nodes(serving: str) -> None:
    """The scheduler places one after the other: without the minute all would come and go without end."""
    hasty = replace(NEW, policy=replace(NEW.policy, capacity_timeout=0))

    def frees(now: float) -> bool:
        return FreeAccelerators in map(type, decide(hasty, seen(HALF, serving), now).actions)

    assert not frees(HELD_SECONDS - 1)
    assert frees(HELD_SECONDS)
    wait = decide(hasty, seen(HALF, serving), 1.0).wait
    assert wait is not None
    assert wait.at == HELD_SECONDS


def test_the_time_counts_from_when_it_has_some_of_its_nodes() -> None:
    """All its pods have waited for long; the first node comes, and the next one a little later."""
    late = replace(HALF, half_placed_since=10 * TIMEOUT)
    assert FreeAccelerators not in actions(late, 11 * TIMEOUT - 1)
    assert FreeAccelerators in actions(late, 11 * TIMEOUT)


def test_then_it_tries_again() -> None:
    freed = replace(HALF, released=True, half_placed_since=None, unschedulable=None, worker_pods=0)
    assert Retire in actions(freed, TIMEOUT)
    assert CreateRevision in actions(Live(), TIMEOUT)


def test_what_serves_keeps_its_nodes() -> None:
    grows = replace(SERVING, worker_pods=3, half_placed_since=0.0, unschedulable=HALF.unschedulable)
    observed = Observed((Revision("a", Record(1), grows),), Selection("a"))
    plan = decide(replace(NEW, revision="a"), observed, TIMEOUT)
    assert not [one for one in plan.actions if isinstance(one, FreeAccelerators)]


def test_it_says_so() -> None:
    told = {one.type: one for one in decide(NEW, seen(HALF), TIMEOUT).conditions}[ConditionType.PROGRESSING]
    assert told.reason is Reason.NO_CAPACITY
    assert "are given back" in told.message


RECREATE = UpgradePolicy(strategy=Strategy.RECREATE, capacity_timeout=TIMEOUT)
WITHOUT_CAPACITY = UpgradePolicy(when_no_capacity=WhenNoCapacity.RECREATE, capacity_timeout=TIMEOUT)
MAKES_ROOM = pytest.mark.parametrize(
    ("policy", "room_after"), [(RECREATE, 60.0), (WITHOUT_CAPACITY, TIMEOUT + 60)], ids=["Recreate", "whenNoCapacity"]
)


@MAKES_ROOM
def test_room_that_does_not_help_is_given_back(policy: UpgradePolicy, room_after: float) -> None:
    """No node is like what b asks for, with or without a: the outage ends where it began."""
    world = started(policy)
    world.nowhere.add("b")
    edit(world, "b")
    world.run(room_after)
    assert "a" not in world.live
    world.run(policy.drain + TIMEOUT + 2 * LOAD_SECONDS + 60)
    failure = world.records["b"].failure
    assert failure is not None
    assert failure.reason == Reason.NO_CAPACITY.value
    assert "no node is like that" in failure.message
    assert (world.service.revision, world.ready("a")) == ("a", True)
    world.run(7 * 86_400, step=3600)
    assert set(world.live) == {"a"}, "it is not tried again"


@MAKES_ROOM
def test_a_node_that_comes_late_is_taken(policy: UpgradePolicy, room_after: float) -> None:
    world = started(policy)
    world.nowhere.add("b")
    edit(world, "b")
    world.run(room_after + 0.9 * TIMEOUT - 60)
    world.nowhere.clear()
    world.run(TIMEOUT)
    assert (world.service.revision, world.records["b"].failure) == ("b", None)


@MAKES_ROOM
@pytest.mark.parametrize("excuse", ["one replica has its nodes", "it waits for its turn"])
def test_what_has_a_node_or_waits_in_a_queue_is_not_given_up(
    policy: UpgradePolicy, room_after: float, excuse: str
) -> None:
    world = started(policy)
    world.nowhere.add("b")
    edit(world, "b")
    world.run(room_after)
    gone = world.observe()
    live = gone.get("b").live
    waiting = replace(live.unschedulable or Unschedulable(0.0), queued=excuse == "it waits for its turn")
    excused = replace(live, unschedulable=waiting, placed=int(excuse == "one replica has its nodes"))
    revisions = (gone.get("a"), replace(gone.get("b"), live=excused))
    later = world.now + policy.drain + 2 * TIMEOUT
    for live_b, is_given_up in ((excused, False), (live, True)):
        seen_now = replace(gone, revisions=(revisions[0], replace(revisions[1], live=live_b)))
        kinds = [type(one) for one in decide(world.wanted, seen_now, later).actions]
        assert (RememberFailure in kinds) == is_given_up


def test_where_nothing_answers_nothing_is_tried() -> None:
    """A roll-back under Recreate must not wait for what a quota would say."""
    world = started(RECREATE)
    world.live["a"].dead_until = world.now + 10_000
    world.run(60)
    edit(world, "b")
    assert [type(one) for one in world.plan().actions] == [RecordRevision, StartDrain]


def test_what_the_api_server_would_refuse_is_tried_before_anything_goes() -> None:
    world = started(RECREATE)
    edit(world, "b")
    plan = world.plan()
    assert [type(one) for one in plan.actions] == [RecordRevision, TryRevision, StartDrain]
