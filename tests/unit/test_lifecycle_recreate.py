"""Recreate costs an outage: not for what the API server would refuse, and not for a way back to what was dead."""

from __future__ import annotations

from dataclasses import replace

import pytest
from unit.lifecycle_place import LOAD_SECONDS
from unit.lifecycle_world import edit, kinds, started
from unit.test_lifecycle_decide import A_LIVE, ON_A, with_live

from sglang_operator.lifecycle import decide
from sglang_operator.lifecycle.observed import Failure, Observed, Probe, Record, Revision
from sglang_operator.lifecycle.scene import LOST_SECONDS
from sglang_operator.lifecycle.wanted import Strategy, UpgradePolicy, Wanted

RECREATE = UpgradePolicy(strategy=Strategy.RECREATE)
A = Revision("a", Record(1), replace(A_LIVE, ready_replicas=1, target_replicas=1, answered=1, front_pods=1))
MISSED = {"ready_replicas": 0, "answered": 0, "probe": Probe.WRONG}
NOW = 1000.0
FAILURE = Failure("EngineFailed", "unknown argument", NOW)


def does(a: Revision, wanted: str = "b", unanswered_since: float | None = None) -> list[tuple[str, str]]:
    """What is done where `a` serves, and `b` is recorded and was not made."""
    observed = Observed((a, Revision("b", Record(2))), ON_A, unanswered_since)
    return list(kinds(decide(Wanted(wanted, policy=RECREATE), observed, NOW).actions))


def marked(a: Revision) -> Revision:
    return replace(a, record=Record(1, draining_since=NOW - 1))


@pytest.mark.parametrize("changes", [{}, MISSED], ids=["it answers", "one look missed it"])
def test_what_serves_is_told_to_end_only_for_what_the_cluster_takes(changes: dict[str, object]) -> None:
    assert does(with_live(A, **changes)) == [("TryRevision", "b"), ("StartDrain", "a")]


@pytest.mark.parametrize("changes", [{}, MISSED], ids=["it answers", "one look missed it"])
def test_another_edit_after_the_mark_is_tried_as_well(changes: dict[str, object]) -> None:
    """The mark does not say for what it was set: an edit may have come since, or a pause."""
    serving = marked(with_live(A, **changes))
    assert does(serving) == [("TryRevision", "b"), ("Retire", "a")]
    assert does(serving, wanted="c") == [("RecordRevision", "c"), ("TryRevision", "c"), ("Retire", "a")]


def test_what_answers_nothing_has_nothing_to_lose_by_a_refusal() -> None:
    lost = with_live(A, **MISSED)
    assert does(lost, unanswered_since=NOW - LOST_SECONDS) == [("StartDrain", "a")]
    assert does(marked(lost), unanswered_since=NOW - LOST_SECONDS) == [("Retire", "a")]


def test_no_way_back_to_what_was_dead_before_it_made_room() -> None:
    world = started(RECREATE)
    world.broken.update("ab")  # `a` for good
    world.run(120)
    edit(world, "b")
    world.run(100)
    assert world.records["b"].failure is None
    assert set(world.live) == {"b"}
    world.broken.discard("b")  # what it lacked is there by now: a Secret, the hub, a driver
    world.run(LOAD_SECONDS + 20)
    assert world.service.revision == "b"
    assert world.ready("b")


@pytest.mark.parametrize("since", [None, 1.0, -LOST_SECONDS / 2])
def test_there_is_a_way_back_to_what_answered_until_it_made_room(since: float | None) -> None:
    """Also where one look had missed it, and where status, which has whole seconds, has the time of the mark."""
    told = NOW - 100
    gone = Revision("a", Record(1, draining_since=told))
    failed = with_live(Revision("b", Record(2), A_LIVE), **MISSED, failure=FAILURE)
    observed = Observed((gone, failed), ON_A, None if since is None else told + since)
    actions = decide(Wanted("b", policy=RECREATE), observed, NOW).actions
    assert ("RememberFailure", "b") in list(kinds(actions))
