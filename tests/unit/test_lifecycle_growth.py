"""A revision that serves grows by whole replicas of several pods, and gives back what it has of another one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.growth_world import EACH, IDLE_SECONDS, LOAD_SECONDS, POLICY, STEP, GrowingWorld

from sglang_operator.lifecycle import decide
from sglang_operator.lifecycle.growth import HELD_SECONDS, PAUSE_SECONDS
from sglang_operator.lifecycle.observed import (
    Live,
    Observed,
    Presence,
    Probe,
    Record,
    Revision,
    Selection,
    TakenBack,
    Unschedulable,
)
from sglang_operator.lifecycle.plan import Action, ApplyInPlace, FreeAccelerators
from sglang_operator.lifecycle.reasons import Condition, ConditionType, Reason, Status
from sglang_operator.lifecycle.wanted import Bounds, UpgradePolicy, Wanted

TIMEOUT = 900.0
WANTED = Wanted("a", "2", Bounds(2, 2), UpgradePolicy(capacity_timeout=TIMEOUT))
GROWS = Live(  # one replica of two pods answers, a third pod has its node since 100, a fourth has none since 50
    Presence.PRESENT,
    "uid-a",
    clusters=1,
    pods=5,
    worker_pods=4,
    ready_replicas=1,
    target_replicas=2,
    probe=Probe.ANSWERED,
    placed=1,
    half_placed_since=100.0,
    unschedulable=Unschedulable(50.0, "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."),
    settings="2",
)
BACK = replace(GROWS, worker_pods=2, half_placed_since=None, unschedulable=None, taken_back=TakenBack(1, 1000.0))


def seen(live: Live, *, silent: bool = False) -> Observed:
    return Observed((Revision("a", Record(1), live),), Selection("a", resource_version="1"), kuberay_silent=silent)


def planned(live: Live, now: float, wanted: Wanted = WANTED, *, silent: bool = False) -> tuple[Action, ...]:
    return decide(wanted, seen(live, silent=silent), now).actions


def told(live: Live, now: float, kind: ConditionType = ConditionType.DEGRADED) -> Condition:
    return next(one for one in decide(WANTED, seen(live), now).conditions if one.type is kind)


def test_it_is_told_to_have_no_more_than_are_whole() -> None:
    """The time counts from when nodes are held, not from when the first pod waited."""
    assert not planned(GROWS, 99 + TIMEOUT)
    assert planned(GROWS, 100 + TIMEOUT) == (ApplyInPlace("a", "2", taken_back=TakenBack(1, 100 + TIMEOUT)),)


def test_whatever_the_time_out_it_holds_them_for_a_minute() -> None:
    hasty = replace(WANTED, policy=replace(WANTED.policy, capacity_timeout=0))
    assert not planned(GROWS, 99 + HELD_SECONDS, hasty)
    assert planned(GROWS, 100 + HELD_SECONDS, hasty)
    lost = replace(GROWS, half_placed_since=-10_000.0)  # the other one's node, just now
    assert not planned(lost, 49 + HELD_SECONDS, hasty)
    assert planned(lost, 50 + HELD_SECONDS, hasty)


def test_it_stays_so_where_an_edit_is_for_the_next_revision_alone() -> None:
    """Adapters of another model. A third replica would take the nodes that this one's successor needs."""
    nothing = replace(WANTED, revision="b", settings="adapters of b", settings_apart={"a": "2"})
    assert [one for one in planned(BACK, 1001.0, nothing) if isinstance(one, ApplyInPlace)] == []


def test_it_is_so_too_where_the_number_follows_the_requests() -> None:
    wanted = replace(WANTED, replicas=Bounds(1, 4))
    assert planned(GROWS, 100 + TIMEOUT, wanted) == (ApplyInPlace("a", "2", taken_back=TakenBack(1, 100 + TIMEOUT)),)
    assert planned(BACK, 1000 + TIMEOUT, wanted) == (ApplyInPlace("a", "2"),)


def test_a_pod_that_is_lost_counts_from_then_on() -> None:
    lost = replace(GROWS, half_placed_since=-10_000.0)
    assert not planned(lost, 49 + TIMEOUT)
    assert planned(lost, 50 + TIMEOUT)


@pytest.mark.parametrize(
    "live",
    [
        replace(GROWS, half_placed_since=None),
        replace(GROWS, unschedulable=None),
    ],
    ids=["it holds no half", "nothing is lacking"],
)
def test_what_wastes_nothing_waits_for_ever(live: Live) -> None:
    assert not planned(live, 100 * TIMEOUT)


def test_while_kuberay_is_silent_nothing_is_taken_back() -> None:
    assert not planned(GROWS, 100 * TIMEOUT, silent=True)


def test_it_is_remembered_and_tried_again() -> None:
    assert not planned(BACK, 1000 + TIMEOUT - 1)
    assert planned(BACK, 1000 + TIMEOUT) == (ApplyInPlace("a", "2"),)


def test_between_two_tries_there_is_time_for_others() -> None:
    hasty = replace(WANTED, policy=replace(WANTED.policy, capacity_timeout=0))
    assert not planned(BACK, 999 + PAUSE_SECONDS, hasty)
    assert planned(BACK, 1000 + PAUSE_SECONDS, hasty)


@pytest.mark.parametrize("replicas", [1, 3])
def test_another_number_is_tried_at_once(replicas: int) -> None:
    other = replace(WANTED, settings=str(replicas), replicas=Bounds(replicas, replicas))
    assert planned(BACK, 1001, other) == (ApplyInPlace("a", str(replicas)),)


def test_losing_another_one_is_taken_back_further() -> None:
    two = replace(GROWS, ready_replicas=2, placed=2, taken_back=TakenBack(2, 1000.0))
    assert not planned(two, 1100.0), "it is told already, and its pods go"
    one = replace(two, ready_replicas=1, placed=1)
    assert planned(one, 1100.0) == (ApplyInPlace("a", "2", taken_back=TakenBack(1, 1100.0)),)


def test_what_is_wanted_is_not_taken_back() -> None:
    """A pod too many goes after a scale-down, if Ray's head can be had; it may be the head that has no node."""
    assert not planned(replace(GROWS, settings="1"), 2000.0, replace(WANTED, settings="1", replicas=Bounds(1, 1)))


def test_what_traffic_goes_back_to_needs_as_many_as_the_other_has() -> None:
    other = Live(Presence.PRESENT, "uid-b", ready_replicas=2, target_replicas=2, probe=Probe.ANSWERED, settings="2")
    observed = Observed((Revision("a", Record(2), BACK), Revision("b", Record(1), other)), Selection("b", "a"))
    assert ApplyInPlace("a", "2") in decide(WANTED, observed, 1001.0).actions


def test_without_a_whole_replica_it_gives_all_back_and_begins_anew() -> None:
    alone = replace(GROWS, worker_pods=2, ready_replicas=0, placed=0, probe=Probe.NOT_ASKED)
    assert not planned(alone, 99 + TIMEOUT)
    assert [type(one) for one in planned(alone, 100 + TIMEOUT)] == [FreeAccelerators]
    freed = replace(alone, released=True)
    assert not planned(freed, 200 + TIMEOUT), "its pods are not gone"
    gone = replace(freed, worker_pods=0, half_placed_since=None, unschedulable=None)
    assert planned(gone, 200 + TIMEOUT) == (ApplyInPlace("a", "2"),)


def test_a_new_revision_needs_no_more_replicas_than_are_left() -> None:
    answers = Live(Presence.PRESENT, "uid-b", pods=3, worker_pods=2, ready_replicas=1, probe=Probe.ANSWERED, answered=1)
    old = replace(BACK, target_replicas=1)
    observed = Observed((Revision("a", Record(1), old), Revision("b", Record(2), answers)), Selection("a"))
    names = [type(one).__name__ for one in decide(replace(WANTED, revision="b"), observed, 1001.0).actions]
    assert "SwitchService" in names


def test_it_is_not_tried_again_beside_a_rollout() -> None:
    """It would want the nodes that the next revision needs, which would need more replicas then."""
    waits = Live(Presence.PRESENT, "uid-b", pods=1, probe=Probe.NOT_ASKED, settings="2")
    observed = Observed((Revision("a", Record(1), BACK), Revision("b", Record(2), waits)), Selection("a"))
    plan = decide(replace(WANTED, revision="b"), observed, 1000 + 2 * TIMEOUT)
    assert not [one for one in plan.actions if isinstance(one, ApplyInPlace) and one.revision == "a"]
    assert "another try" not in (plan.wait.why if plan.wait else "")


def test_requests_are_held_on_while_it_begins_anew() -> None:
    """It was asleep, and shall have a replica now."""
    asleep = Live(Presence.PRESENT, "uid-a", pods=1, released=True, holding=True, settings="2")
    (back,) = planned(asleep, 200.0)
    assert isinstance(back, ApplyInPlace)
    assert back.holding


def test_it_says_what_happened_what_to_do_and_when_it_is_tried_again() -> None:
    found = told(BACK, 1001.0)
    assert (found.status, found.reason, found.again_at) == (Status.TRUE, Reason.NO_CAPACITY, 1000 + TIMEOUT)
    assert "a is held to 1 of 2 replicas" in found.message
    assert "free or add nodes, or ask for fewer replicas" in found.message
    assert "1 of 2 replicas" in told(BACK, 1001.0, ConditionType.READY).message
    assert told(BACK, 1000 + TIMEOUT).status is Status.FALSE, "it is tried again"


def test_it_says_nothing_that_is_not_written() -> None:
    """While the endpoint is paused, or a policy refuses the write, each pass plans it anew, with another time."""
    first, later = (decide(WANTED, replace(seen(GROWS), paused=True), now) for now in (2000.0, 2001.0))
    assert not first.actions
    assert first.conditions == later.conditions
    assert told(GROWS, 2000.0) == told(GROWS, 2001.0)
    assert "a has no node" in told(GROWS, 2000.0).message


def test_it_looks_again_when_a_limit_ends() -> None:
    def looks(live: Live, now: float) -> float | None:
        wait = decide(WANTED, seen(live), now).wait
        return wait.at if wait else None

    assert looks(GROWS, 60 + TIMEOUT) == 100 + TIMEOUT
    assert looks(BACK, 1001.0) == 1000 + TIMEOUT


EVENTS = st.one_of(
    st.tuples(st.just("scale"), st.integers(1, 3)),
    st.tuples(st.just("nodes"), st.integers(0, 3 * EACH)),
    st.tuples(st.just("silent"), st.booleans()),
    st.tuples(st.just("stale"), st.integers(1, 3)),
    *[st.tuples(st.just("run"), st.sampled_from([20, 100, 300]))] * 3,
)
CYCLE = POLICY.capacity_timeout + PAUSE_SECONDS  # of a try and the time until the next one
MOST_IDLE = POLICY.capacity_timeout + IDLE_SECONDS + 5 * STEP


def live_through(history: list[tuple[str, int]]) -> GrowingWorld:
    world = GrowingWorld()
    world.run(2 * LOAD_SECONDS)
    plans = []
    for kind, value in history:
        if kind == "scale":
            world.scale(value)
        elif kind == "run":
            world.run(value)
        elif kind == "stale":
            plans.append(world.plan())
            world.step()
            world.reconcile(plans[-1])
        else:
            setattr(world, kind, value)
    world.silent = False
    return world


@settings(max_examples=40, deadline=None)
@given(st.lists(EVENTS, max_size=12), st.integers(1, 3), st.integers(1, 3 * EACH))
def test_nothing_holds_nodes_in_vain_and_nothing_that_runs_is_touched(
    history: list[tuple[str, int]], replicas: int, nodes: int
) -> None:
    world = live_through(history)
    assert not world.ended
    world.scale(replicas)
    world.nodes = nodes
    world.run(CYCLE)  # what ran beyond the last wish has gone, and what loads has loaded
    world.longest_idle, before = 0.0, world.running
    for pod in world.pods:
        pod.idle_since = world.now if pod.idle_since else None
    for _ in range(20):
        world.run(2 * CYCLE / 20)
        assert world.running >= min(before, replicas)
    assert world.longest_idle <= MOST_IDLE
    assert not world.ended
    assert world.running == min(replicas, nodes // EACH)


@settings(max_examples=40, deadline=None)
@given(st.lists(EVENTS, max_size=12), st.integers(1, 3))
def test_with_nodes_enough_it_has_all_that_is_wanted_and_then_rests(
    history: list[tuple[str, int]], replicas: int
) -> None:
    world = live_through(history)
    world.scale(replicas)
    world.nodes = 4 * EACH
    world.run(2 * CYCLE)
    assert (world.running, len(world.pods)) == (replicas, replicas * EACH)
    assert world.values.taken_back is None
    assert not world.plan().actions
    assert world.group["minReplicas"] == world.group["maxReplicas"] == replicas * EACH


@settings(max_examples=40, deadline=None)
@given(st.lists(EVENTS, max_size=12))
def test_a_second_pass_over_an_unchanged_world_plans_nothing(history: list[tuple[str, int]]) -> None:
    world = live_through(history)
    for _ in range(2):  # what it has given back it may take again at once
        world.reconcile()
    assert not world.plan().actions
