"""What one look at a revision misses, and what a Service that somebody deletes takes along, ends no stream."""

from __future__ import annotations

from dataclasses import replace

import pytest
from unit.lifecycle_place import LOAD_SECONDS
from unit.lifecycle_world import World, edit, kinds, set_policy, started

from sglang_operator.lifecycle import decide
from sglang_operator.lifecycle.observed import (
    Front,
    Live,
    Observed,
    Presence,
    Probe,
    Record,
    Revision,
    Selection,
)
from sglang_operator.lifecycle.plan import SwitchService
from sglang_operator.lifecycle.wanted import Bounds, UpgradePolicy, Wanted

MISSES = ["time-out", "flip", "partial"]
DRAIN = 900.0


def draining(world: World) -> World:
    """Revision `b` serves, and a client stays on `a`."""
    world.stuck.add("a")
    edit(world, "b")
    world.run(100)
    assert world.records["a"].draining_since is not None
    return world


@pytest.mark.parametrize("how", MISSES)
def test_a_missed_look_at_a_draining_revision_ends_nothing(how: str) -> None:
    world = draining(started())
    for _ in range(20):
        world.missed["a"] = how
        assert world.settle() == []
        world.tick(10)
    world.run(DRAIN)  # World.check_end looks at it
    assert set(world.live) == {"b"}


@pytest.mark.parametrize("how", MISSES)
def test_a_missed_look_at_what_serves_while_the_old_one_drains_moves_nothing(how: str) -> None:
    world = draining(started())
    world.missed["b"] = how
    assert world.settle() == []


@pytest.mark.parametrize("how", MISSES)
def test_a_missed_look_within_min_ready_seconds_fails_nothing(how: str) -> None:
    world = started(UpgradePolicy(min_ready=100))
    edit(world, "b")
    world.run(70)
    assert world.service.revision == "b"
    world.missed["b"] = how
    assert world.settle() == []
    world.run(200)
    assert set(world.live) == {"b"}


def test_looks_that_miss_for_long_are_believed() -> None:
    world = started(UpgradePolicy(min_ready=100))
    edit(world, "b")
    world.run(70)
    for _ in range(2):
        world.missed["b"] = "time-out"
        world.reconcile()
        world.tick(10)
    assert world.records["b"].failure is not None


def test_a_service_deleted_while_the_old_revision_drains() -> None:
    world = draining(started())
    world.delete_service()
    assert list(kinds(world.settle())) == [("SwitchService", "b")]
    assert world.service.previous == "a"
    world.run(DRAIN)  # World.check_end looks at it
    assert set(world.live) == {"b"}


def test_a_service_deleted_before_the_drain_began() -> None:
    world = started()
    world.stuck.add("a")
    edit(world, "b")
    while world.service.revision != "b":
        world.tick(10)
        world.reconcile()
    world.delete_service()
    assert list(kinds(world.settle())) == [("SwitchService", "b"), ("StartDrain", "a")]


@pytest.mark.parametrize("how", MISSES)
def test_a_service_deleted_and_the_only_revision_that_answers_missed(how: str) -> None:
    world = started()
    edit(world, "b")
    world.run(20)
    world.delete_service()
    world.missed["a"] = how
    world.reconcile()
    assert world.live["a"].going_since is None
    world.run(200)
    assert set(world.live) == {"b"}


def test_time_outs_begin_anew_when_kuberay_is_heard_again() -> None:
    world = started()
    world.capacity = 1
    set_policy(world, UpgradePolicy(progress_deadline=100))
    edit(world, "b")
    world.settle()
    world.capacity = 2
    world.tick(10)
    world.live["b"].dead_until = world.now + 1200  # its pod is lost, and KubeRay is not there to make another one
    world.silent = True
    world.run(1000)
    world.silent = False
    world.settle()
    world.live["b"].dead_until = 0.0
    world.run(LOAD_SECONDS)
    assert world.records["b"].failure is None
    assert world.service.revision == "b"


def test_a_service_deleted_while_the_head_of_the_old_revision_may_hold_requests() -> None:
    """It sleeps and has no worker that could tell of any."""
    up = Live(Presence.PRESENT, "uid-b", pods=2, ready_replicas=1, probe=Probe.ANSWERED, answered=1, front_pods=1)
    sleeps = Revision("a", Record(1), Live(Presence.PRESENT, "uid-a", pods=1, target_replicas=0, holds=True))
    observed = Observed((sleeps, Revision("b", Record(2), up)))
    (switch, *_) = decide(Wanted("b", replicas=Bounds(0, 1)), observed, 100.0).actions
    assert isinstance(switch, SwitchService)
    assert (switch.revision, switch.previous) == ("b", "a")


def test_the_only_revision_that_may_answer_is_kept_over_its_drain_limit() -> None:
    """Both looks missed: what drains is all that could answer, if what serves is down."""
    world = draining(started())
    world.tick(2 * DRAIN)
    world.missed.update(a="time-out", b="time-out")
    assert world.reconcile().actions == ()


@pytest.mark.parametrize(
    ("service", "since", "does"),
    [(Selection(resource_version="9"), 50.0, []), (Selection(), None, [("StartDrain", "a")])],
    ids=["it came back without its memory", "it is missing"],
)
def test_held_requests_are_not_cut_while_no_service_tells_of_them(
    service: Selection, since: float | None, does: list[tuple[str, str]]
) -> None:
    holds = Live(Presence.PRESENT, "uid-a", pods=1, target_replicas=0, holds=True, front=Front(1))
    loads = Live(Presence.PRESENT, "uid-b", pods=2, worker_pods=1, target_replicas=1, floor=1)
    flaps = replace(holds, holds=False, may_hold=True, front=None)  # KubeRay takes a head out after one failed check
    for head in (holds, flaps):
        revisions = (Revision("a", Record(1, draining_since=since), head), Revision("b", Record(2), loads))
        plan = decide(Wanted("b", replicas=Bounds(0, 1)), Observed(revisions, service), 100.0)
        assert list(kinds(plan.actions)) == does
