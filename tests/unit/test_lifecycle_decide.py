"""Single decisions: limits, what a switch needs, and what is kept."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from unit.lifecycle_world import RefusedError, World, edit, kinds, set_policy, started

from sglang_operator.api import parse_endpoint
from sglang_operator.lifecycle import decide, wanted_of
from sglang_operator.lifecycle.observed import (
    Failure,
    Front,
    Live,
    Observed,
    Presence,
    Probe,
    Record,
    Revision,
    Selection,
    Unschedulable,
)
from sglang_operator.lifecycle.plan import RememberFailure
from sglang_operator.lifecycle.reasons import Reason
from sglang_operator.lifecycle.wanted import Bounds, UpgradePolicy, Wanted, WhenNoCapacity

A_LIVE = Live(
    Presence.PRESENT,
    "uid-a",
    pods=5,
    ready_replicas=4,
    target_replicas=4,
    probe=Probe.ANSWERED,
    answered=4,
    front_pods=4,
)
B_LIVE = replace(A_LIVE, uid="uid-b", progress=0.0, floor=4)
A = Revision("a", Record(1), A_LIVE)
B = Revision("b", Record(2), B_LIVE)
WANTED = Wanted("b", replicas=Bounds(1, 8))
ON_A = Selection("a", resource_version="7")


def planned(
    *revisions: Revision,
    wanted: Wanted = WANTED,
    now: float = 100.0,
    service: Selection = ON_A,
    unanswered_since: float | None = None,
) -> list[str]:
    plan = decide(wanted, Observed(revisions, service, unanswered_since), now)
    return [f"{name} {revision}" for name, revision in kinds(plan.actions)]


def with_live(revision: Revision, **changes: object) -> Revision:
    return replace(revision, live=replace(revision.live, **changes))  # type: ignore[arg-type]


def test_switch_needs_as_many_answering_replicas_as_the_serving_one_needs() -> None:
    assert planned(A, B) == ["SwitchService b"]
    assert planned(A, with_live(B, ready_replicas=3)) == []
    assert planned(A, with_live(B, answered=3)) == []
    assert planned(A, with_live(B, probe=Probe.WRONG)) == []


def test_traffic_leaves_what_answers_for_replicas_that_have_answered_for_a_while() -> None:
    """The first request of all may end an engine, and is then the operator's own."""
    b = with_live(B, ready_replicas=5, answered=5, answered_since=(80.0, 80.0, 80.0, 90.0, 99.0))
    assert planned(A, b, now=94.9) == []
    assert planned(A, b, now=95.0) == ["SwitchService b"]  # four are needed, and the fifth is another matter
    lost = with_live(A, ready_replicas=0, answered=0, front_pods=0)
    assert planned(lost, b, now=90.0)[0] == "SwitchService b"
    missed = with_live(A, ready_replicas=0, answered=0)
    assert planned(missed, b, now=94.9) == []


def test_switch_asks_for_no_more_replicas_than_the_spec_allows() -> None:
    two = with_live(B, ready_replicas=2, answered=2, floor=2)
    assert planned(A, two, wanted=replace(WANTED, replicas=Bounds(1, 2))) == ["SwitchService b"]


def test_progress_deadline_counts_from_the_last_progress_without_unschedulable_time() -> None:
    loading = with_live(B, ready_replicas=0, answered=0, progress=150.0)
    assert planned(A, loading, now=1049.0) == []
    assert planned(A, loading, now=1050.0) == ["RememberFailure b"]
    waiting = with_live(loading, unschedulable=Unschedulable(since=100.0))
    assert planned(A, waiting, now=5000.0) == []


def test_a_revision_without_progress_is_remembered_with_what_was_in_its_way() -> None:
    """Its pods go, and their events: the record is what is left to read."""
    blocked = with_live(B, ready_replicas=0, answered=0, progress=150.0, complaint="registry: refused")
    (remembered,) = decide(WANTED, Observed((A, blocked), ON_A), 1050.0).actions
    assert isinstance(remembered, RememberFailure)
    assert remembered.failure.message.endswith("(spec.upgrade.progressDeadlineSeconds): registry: refused")


def test_a_failed_revision_is_kept_from_when_it_is_given_up() -> None:
    """Its log may tell of it long before, while there was no revision to go back to."""
    failed = with_live(B, ready_replicas=0, answered=0, progress=0.0, failure=Failure("BadArgument", "x", at=100.0))
    (remembered,) = decide(WANTED, Observed((A, failed), ON_A), 9000.0).actions
    assert isinstance(remembered, RememberFailure)
    assert (remembered.failure.reason, remembered.failure.at) == ("BadArgument", 9000.0)
    released = replace(with_live(failed, released=True, worker_pods=0), record=Record(2, remembered.failure))
    assert planned(A, released, now=9000.0 + WANTED.policy.keep_failed - 1) == []


def test_a_pass_that_comes_late_does_not_give_up_a_revision_that_is_done() -> None:
    assert planned(A, B, now=9999.0) == ["SwitchService b"]


def test_the_next_look_is_when_the_first_limit_ends() -> None:
    loading = with_live(B, ready_replicas=0, answered=0, progress=150.0)
    wait = decide(WANTED, Observed((A, loading), ON_A), 200.0).wait
    assert wait is not None
    assert (wait.at, wait.why) == (1050.0, "progressDeadlineSeconds")


def test_without_capacity_the_old_revision_makes_room_only_when_told_to() -> None:
    world = started(UpgradePolicy(capacity_timeout=100))
    world.capacity = 1
    edit(world, "b")
    world.run(300)
    assert world.ready("a")
    set_policy(world, UpgradePolicy(capacity_timeout=100, when_no_capacity=WhenNoCapacity.RECREATE))
    assert list(kinds(world.settle())) == [("StartDrain", "a"), ("Retire", "a")]
    world.run(100)
    assert world.service.revision == "b"
    assert set(world.live) == {"b"}  # a was not taken for deleted by hand


@pytest.mark.parametrize(
    ("now", "front", "ends"),
    [
        (109.0, Front(0, quiet_since=100.0), False),  # endpoints have not settled
        (110.0, Front(0, quiet_since=100.0), True),
        (114.0, Front(0, quiet_since=110.0), False),  # not quiet for long enough
        (999.0, Front(1), False),
        (999.0, Front(1, quiet_since=100.0), False),  # somebody came back
        (999.0, None, False),  # it cannot be asked, so it may be busy
        (1010.0, Front(1), True),  # 10 s to settle and drainSeconds
    ],
)
def test_drain(now: float, front: Front | None, ends: bool) -> None:
    draining = replace(with_live(A, front=front), record=Record(1, draining_since=100.0))
    service = Selection("b", previous="a", switched_at=100.0)
    assert planned(draining, B, now=now, service=service) == (["Retire a"] if ends else [])


def test_the_old_revision_is_not_ended_while_the_new_one_answers_nothing() -> None:
    draining = replace(with_live(A, probe=Probe.NOT_ASKED), record=Record(1, draining_since=100.0))
    service = Selection("b", previous="a", switched_at=100.0)
    assert planned(draining, with_live(B, ready_replicas=0), now=9999.0, service=service) == []


def test_traffic_goes_back_to_what_answers_while_the_new_revision_does_not() -> None:
    draining = replace(A, record=Record(1, draining_since=100.0))
    service = Selection("b", previous="a", switched_at=100.0)
    down = with_live(B, ready_replicas=0)
    assert planned(draining, down, service=service) == []  # it may be this look that missed
    assert planned(draining, down, service=service, unanswered_since=91.0) == []
    assert planned(draining, down, service=service, unanswered_since=90.0) == ["CancelDrain a", "SwitchService a"]
    gone = with_live(down, front_pods=0)  # then there is nothing that could have been missed
    assert planned(draining, gone, service=service) == ["CancelDrain a", "SwitchService a"]


def test_a_missed_look_at_what_serves_does_not_lower_what_its_successor_needs() -> None:
    missed, small = with_live(A, ready_replicas=0, answered=0), with_live(B, ready_replicas=1, answered=1)
    assert planned(missed, small) == []
    assert planned(missed, small, unanswered_since=50.0)[0] == "SwitchService b"


def test_traffic_goes_to_no_revision_that_was_only_looked_at() -> None:
    draining = replace(with_live(A, answered=0), record=Record(1, draining_since=100.0))
    service = Selection("b", previous="a", switched_at=100.0)
    assert planned(draining, with_live(B, ready_replicas=0, front_pods=0), service=service) == []


def test_a_failed_revision_is_tried_again_only_after_the_spec_changed() -> None:
    world = started()
    world.broken.add("b")
    edit(world, "b")
    world.run(100)
    world.broken.clear()
    assert not world.run(1000)  # mended outside, but nobody asked for another try
    assert world.service.revision == "a"
    edit(world, "a")
    world.run(100)
    edit(world, "b")
    world.run(200)
    assert world.service.revision == "b"


def test_a_failed_revision_loses_its_accelerators_at_once_and_its_head_later() -> None:
    world = started(UpgradePolicy(keep_failed=500))
    world.broken.add("b")
    edit(world, "b")
    done = list(kinds(world.run(30)))
    assert done[-2:] == [("RememberFailure", "b"), ("FreeAccelerators", "b")]
    wait = world.plan().wait
    assert wait is not None
    assert wait.why == "keepFailedSeconds"
    assert list(kinds(world.run(600))) == [("Retire", "b")]
    failure = world.records["b"].failure
    assert failure is not None
    assert failure.log_tail == ("Traceback",)


def test_a_stopped_endpoint_changes_revision_without_pods() -> None:
    stopped = replace(WANTED, replicas=Bounds(0, 0))
    off = {"ready_replicas": 0, "answered": 0, "target_replicas": 0, "probe": Probe.NOT_ASKED, "floor": 0}
    assert planned(with_live(A, **off), with_live(B, **off), wanted=stopped) == ["SwitchService b"]
    assert planned(A, with_live(B, **off), wanted=stopped) == []  # a still answers
    assert decide(stopped, Observed((A, B), ON_A), 0).conditions


def test_a_missing_service_comes_back_to_what_answers() -> None:
    loading = with_live(B, ready_replicas=0, answered=0)
    assert planned(A, loading, service=Selection()) == ["SwitchService a"]
    deaf = with_live(A, probe=Probe.UNREACHABLE)
    assert planned(deaf, loading, service=Selection()) == []  # and is not ended because no Service selects it


def test_old_records_are_dropped_beyond_the_limit() -> None:
    past = [Revision(f"old{index}", Record(index)) for index in range(1, 8)]
    now = Revision("b", Record(8), replace(B_LIVE, floor=0))
    assert planned(*past, now, service=Selection("b")) == ["ForgetRecord old2", "ForgetRecord old1"]


def test_what_was_wished_is_taken_from_the_endpoint() -> None:
    spec = {"model": {"uri": "hf://Qwen/Qwen3-8B"}, "replicas": 3, "upgrade": {"drainSeconds": 30}}
    manifest = {
        "apiVersion": "serve.sglang.io/v1alpha1",
        "kind": "SGLangEndpoint",
        "metadata": {"name": "qwen3"},
        "spec": spec,
    }
    wanted = wanted_of(parse_endpoint(manifest))
    more = wanted_of(parse_endpoint({**manifest, "spec": {**spec, "replicas": 4}}))
    assert wanted.replicas == Bounds(3, 3)
    assert wanted.policy.drain == 30
    assert wanted.revision == more.revision
    assert wanted.settings != more.settings


def test_every_reason_has_its_row_in_the_docs(request: pytest.FixtureRequest) -> None:
    page = (request.config.rootpath / "docs/reference/conditions.md").read_text()
    rows = page.partition("## Reasons\n")[2].partition("\n## ")[0]
    assert sorted(re.findall(r"^\| `(\w+)` \|", rows, re.MULTILINE)) == sorted(reason.value for reason in Reason)


def test_every_reason_is_provoked_where_the_api_server_is_real(request: pytest.FixtureRequest) -> None:
    tests = request.config.rootpath / "tests"
    text = "".join(path.read_text() for tier in ("apiserver", "cluster") for path in (tests / tier).glob("test_*.py"))
    assert [reason.value for reason in Reason if f'"{reason.value}"' not in text] == []


def test_a_first_revision_is_created_in_one_pass() -> None:
    world = World(Wanted("a"))
    assert list(kinds(world.plan().actions)) == [("RecordRevision", "a"), ("CreateRevision", "a")]


def test_a_pass_that_slept_through_a_switch_back_cannot_end_what_serves() -> None:
    world = started()
    edit(world, "b")
    while ("Retire", "a") not in kinds(world.plan().actions):
        world.settle()
        world.tick(10)
    old = world.plan()
    edit(world, "a")
    world.settle()
    assert world.service.revision == "a"
    with pytest.raises(RefusedError):
        world.carry_out(old)


def test_a_pass_that_slept_through_an_edit_cannot_make_a_third_revision() -> None:
    world = started()
    edit(world, "b")
    world.reconcile(crash_after=1)  # b is recorded, not created
    old = world.plan()
    edit(world, "c")
    world.settle()
    with pytest.raises(RefusedError):
        world.carry_out(old)
    assert set(world.live) == {"a", "c"}
