"""The cases of docs/operations/rollouts.md, one test each, played through in the small world."""

from __future__ import annotations

from dataclasses import replace

from unit.lifecycle_world import World, edit, kinds, set_policy, started

from sglang_operator.lifecycle.plan import ApplyInPlace
from sglang_operator.lifecycle.reasons import Condition, ConditionType, Reason, Status
from sglang_operator.lifecycle.scene import LOST_SECONDS
from sglang_operator.lifecycle.wanted import Strategy, UpgradePolicy, Wanted

RECREATE = UpgradePolicy(strategy=Strategy.RECREATE)


def condition(world: World, kind: ConditionType) -> Condition:
    return next(one for one in world.plan().conditions if one.type is kind)


def progressing(world: World) -> Reason:
    return condition(world, ConditionType.PROGRESSING).reason


def test_a_new_revision_takes_over_and_the_old_one_ends_after_its_drain() -> None:
    world = started()
    edit(world, "b")
    assert list(kinds(world.run(200))) == [
        ("RecordRevision", "b"),
        ("CreateRevision", "b"),
        ("SwitchService", "b"),
        ("StartDrain", "a"),
        ("Retire", "a"),
    ]
    assert progressing(world) is Reason.COMPLETE


def test_edited_while_b_is_pending() -> None:
    world = started()
    edit(world, "b")
    world.run(20)
    edit(world, "c")
    assert list(kinds(world.settle())) == [("RecordRevision", "c"), ("Retire", "b")]
    assert progressing(world) is Reason.REPLACING
    world.run(20)
    assert set(world.live) == {"a", "c"}  # c came when nothing of b was left
    world.run(200)
    assert world.service.revision == "c"


def test_edited_while_a_drains() -> None:
    world = started()
    world.stuck.add("a")
    edit(world, "b")
    world.run(100)
    edit(world, "c")
    world.run(100)
    assert set(world.live) == {"a", "b"}
    assert world.ready("a")
    world.stuck.clear()
    world.run(50)
    assert set(world.live) == {"b", "c"}


def test_reverted_to_a_during_its_drain() -> None:
    world = started()
    world.stuck.add("a")
    edit(world, "b")
    world.run(100)
    edit(world, "a")
    assert list(kinds(world.settle()))[:3] == [("RecordRevision", "a"), ("CancelDrain", "a"), ("SwitchService", "a")]
    world.run(100)
    assert set(world.live) == {"a"}


def test_reverted_to_a_while_a_is_terminating() -> None:
    world = started()
    edit(world, "b")
    while world.live["a"].going_since is None:
        world.run(10)
    edit(world, "a")
    assert not [name for name, _ in kinds(world.settle()) if name == "CreateRevision"]
    assert progressing(world) is Reason.REPLACING
    world.run(30)
    assert world.live["a"].going_since is None
    world.run(150)
    assert world.service.revision == "a"
    assert set(world.live) == {"a"}


def test_first_revision_never_served_spec_fixed() -> None:
    world = World(Wanted("a"), broken={"a"}, capacity=1)
    world.run(100)
    edit(world, "b")
    assert ("Retire", "a") in list(kinds(world.settle()))
    world.run(200)
    assert world.service.revision == "b"


def test_an_engine_that_ends_with_its_first_answer_gets_no_traffic() -> None:
    world = started(UpgradePolicy(progress_deadline=100))
    world.fragile.add("b")
    edit(world, "b")
    assert ("SwitchService", "b") not in list(kinds(world.run(1000)))
    assert condition(world, ConditionType.DEGRADED).reason is Reason.FAILING


def test_timeout_with_no_healthy_predecessor() -> None:
    world = World(Wanted("a"), broken={"a"})
    world.run(2000)
    assert set(world.live) == {"a"}
    assert world.records["a"].failure is None
    degraded = condition(world, ConditionType.DEGRADED)
    assert (degraded.status, degraded.reason) == (Status.TRUE, Reason.FAILING)
    world.broken.clear()
    world.run(100)
    assert world.service.revision == "a"


def test_one_edit_changes_bounds_and_image_and_the_image_fails() -> None:
    world = started()
    world.broken.add("b")
    world.wanted = replace(world.wanted, revision="b", settings="two replicas")
    assert [action for action in world.settle() if isinstance(action, ApplyInPlace) and action.revision == "a"]
    world.run(100)
    assert world.service.revision == "a"
    assert world.live["a"].settings == "two replicas"
    assert progressing(world) is Reason.ROLLED_BACK


def test_serving_revision_dies_mid_rollout() -> None:
    world = started(UpgradePolicy(progress_deadline=15))
    edit(world, "b")
    world.settle()
    world.live["a"].dead_until = world.now + 60
    world.run(30)
    assert world.records["b"].failure is None  # far beyond the deadline, but there is nothing to go back to
    world.run(20)
    assert world.service.revision == "b"


def test_b_fails_within_min_ready_seconds() -> None:
    world = started(UpgradePolicy(min_ready=100))
    edit(world, "b")
    world.run(70)
    assert world.service.revision == "b"
    assert progressing(world) is Reason.ON_TRIAL
    world.broken.add("b")
    assert list(kinds(world.settle()))[:2] == [("RememberFailure", "b"), ("SwitchService", "a")]
    world.run(100)
    assert world.live["b"].released
    assert world.ready("a")


def test_b_answers_nothing_any_more_within_min_ready_seconds() -> None:
    world = started(UpgradePolicy(min_ready=100))
    edit(world, "b")
    world.run(70)
    world.live["b"].dead_until = world.now + 1000
    assert not world.settle()  # one look may be wrong
    wait = world.plan().wait
    assert wait is not None
    assert wait.at == world.now + LOST_SECONDS
    world.run(LOST_SECONDS)
    assert world.service.revision == "a"
    failure = world.records["b"].failure
    assert failure is not None
    assert failure.reason == Reason.LOST_AFTER_SWITCH.value


def test_probe_cannot_reach_the_pods() -> None:
    world = started()
    world.unreachable = True
    edit(world, "b")
    world.run(3000)
    assert world.service.revision == "a"
    assert world.records["b"].failure is None
    assert progressing(world) is Reason.PROBE_UNREACHABLE
    world.unreachable = False
    world.run(20)
    assert world.service.revision == "b"


def test_kuberay_silent() -> None:
    world = started()
    world.capacity = 1
    edit(world, "b")
    world.settle()
    world.silent = True
    assert not world.run(5000)
    assert set(world.live) == {"a", "b"}
    assert progressing(world) is Reason.KUBERAY_SILENT
    assert world.plan().wait is None


def test_recreate_waits_for_pods_gone_and_rolls_back_by_a_second_outage() -> None:
    world = started(RECREATE)
    world.capacity = 1
    world.broken.add("b")
    edit(world, "b")
    assert list(kinds(world.settle())) == [
        ("RecordRevision", "b"),
        ("TryRevision", "b"),
        ("StartDrain", "a"),
        ("TryRevision", "b"),
        ("Retire", "a"),
    ]
    assert "nothing serves" in condition(world, ConditionType.PROGRESSING).message
    assert list(kinds(world.run(20)))[:3] == [("CreateRevision", "b"), ("RememberFailure", "b"), ("CancelDrain", "a")]
    assert "second outage" in condition(world, ConditionType.PROGRESSING).message
    world.run(100)
    assert world.ready("a")
    assert world.live["b"].released


def test_recreate_replaces_a_good_revision() -> None:
    world = started(RECREATE)
    world.capacity = 1
    edit(world, "b")
    world.run(100)
    assert world.service.revision == "b"
    assert set(world.live) == {"b"}


def test_serving_rayservice_deleted_by_hand() -> None:
    world = started()
    world.live["a"].going_since = world.now
    assert ("CreateRevision", "a") in list(kinds(world.run(30)))
    world.run(60)
    assert world.ready("a")


def test_serving_rayservice_deleted_by_hand_mid_rollout() -> None:
    world = started()
    edit(world, "b")
    world.settle()
    world.live["a"].going_since = world.now
    assert ("CreateRevision", "a") in list(kinds(world.run(30)))
    world.run(200)
    assert set(world.live) == {"b"}


def test_strategy_or_timeouts_edited_mid_rollout() -> None:
    world = started()
    world.capacity = 1
    edit(world, "b")
    world.run(100)
    assert progressing(world) is Reason.CAPACITY
    set_policy(world, UpgradePolicy(capacity_timeout=50))
    assert progressing(world) is Reason.NO_CAPACITY
    set_policy(world, RECREATE)
    assert list(kinds(world.settle())) == [("StartDrain", "a"), ("Retire", "a")]
    world.run(100)
    assert world.service.revision == "b"
    assert set(world.records) == {"a", "b"}
