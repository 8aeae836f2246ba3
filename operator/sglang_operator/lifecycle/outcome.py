"""Conditions of the rollout: what happened, and what to do about it, from the same facts as the plan."""

from __future__ import annotations

from sglang_operator.lifecycle.failing import can_fall_back, is_overdue
from sglang_operator.lifecycle.growth import held_to, most_held, tries_again_at
from sglang_operator.lifecycle.observed import Failure, Probe, Revision
from sglang_operator.lifecycle.reasons import Condition, ConditionType, Reason, Status
from sglang_operator.lifecycle.scene import STEADY_SECONDS, Scene, answers, needed_replicas, steady_at
from sglang_operator.lifecycle.start import blockers

Cause = tuple[Reason, str]

UNREACHABLE = (
    "the pods are Ready but the operator cannot reach their port 8000: allow it in the NetworkPolicy; traffic stays "
    "where it is until then"
)


def conditions_of(scene: Scene) -> tuple[Condition, ...]:
    """Ready, Progressing and Degraded, each exactly once."""
    return _ready(scene), _progressing(scene), _degraded(scene)


def _ready(scene: Scene) -> Condition:
    if scene.selected.running:
        message = f"{scene.selected.name} answers with {_of_wanted(scene)}"
        return Condition(ConditionType.READY, Status.TRUE, Reason.SERVING, message)
    if answers(scene, scene.selected):
        return Condition(ConditionType.READY, Status.TRUE, *_without_replica(scene))
    if scene.wanted.stopped:
        message = "no replica is wanted: set spec.replicas to start the endpoint"
        return Condition(ConditionType.READY, Status.FALSE, Reason.STOPPED, message)
    return Condition(ConditionType.READY, Status.FALSE, Reason.NOT_SERVING, _why_not_serving(scene))


def _of_wanted(scene: Scene) -> str:
    """`3 replicas`, or `2 of 3 replicas` and why while some are missing."""
    live = scene.selected.live
    wanted = max(live.target_replicas or 0, scene.wanted.replicas.least)
    if live.ready_replicas >= wanted:
        return f"{live.ready_replicas} replicas"
    return f"{live.ready_replicas} of {wanted} replicas{_mishap(scene.selected)}"


def _mishap(revision: Revision) -> str:
    """What ended a replica, while another one starts in its place."""
    return f"; the last one ended: {revision.live.mishap}" if revision.live.mishap else ""


def _without_replica(scene: Scene) -> Cause:
    """It answers although no replica runs."""
    name, held = scene.selected.name, f"held for up to {scene.wanted.hold:.0f} s (spec.scaling.holdSeconds)"
    if scene.selected.asleep:
        return Reason.AT_ZERO, f"{name} has no replica while nobody asks; the next request starts one and is {held}"
    return Reason.WAKING, f"a replica of {name} starts; requests are {held}"


def _why_not_serving(scene: Scene) -> str:
    if scene.recreates and scene.aim.name != scene.selected.name and scene.selected.name:
        return f"spec.upgrade.strategy Recreate: no revision serves until {scene.aim.name} has loaded its model"
    if scene.selected.name:
        waits = f"no replica of {scene.selected.name} is ready; it is waited for, other revisions that answer take over"
        return waits + _mishap(scene.selected)
    return "no revision has served yet"


def _progressing(scene: Scene) -> Condition:
    observed = scene.observed
    if observed.paused:
        message = "spec.paused is true: nothing is written until it is false"
        return Condition(ConditionType.PROGRESSING, Status.UNKNOWN, Reason.PAUSED, message)
    if observed.kuberay_silent:
        message = "KubeRay does not act: time-outs stand still and what it made stays; "
        message += observed.kuberay_said or "look at the KubeRay operator"
        return Condition(ConditionType.PROGRESSING, Status.UNKNOWN, Reason.KUBERAY_SILENT, message)
    reason, message = _arrived(scene) if scene.aim.name == observed.service.revision else _moving(scene)
    done = reason in {Reason.COMPLETE, Reason.ROLLED_BACK}
    return Condition(ConditionType.PROGRESSING, Status.FALSE if done else Status.TRUE, reason, message)


def _arrived(scene: Scene) -> Cause:
    name = scene.aim.name
    if not answers(scene, scene.aim) and not scene.wanted.stopped:
        return _rolling_back(scene) or _recovering(scene)
    if scene.has_failed:
        return Reason.ROLLED_BACK, f"{name} serves; {_advice(scene)}"
    left = [other.name for other in scene.others if other.holds_pods]
    if not left:
        return Reason.COMPLETE, f"{name} is as the spec wants it"
    if scene.in_trial:
        return Reason.ON_TRIAL, f"{', '.join(left)} is kept until {name} has served for spec.upgrade.minReadySeconds"
    return Reason.DRAINING, f"{name} serves; {', '.join(left)} finishes its requests"


def _recovering(scene: Scene) -> Cause:
    waits = f"{scene.aim.name} shall serve and has no ready replica"
    return Reason.RECOVERING, waits + _mishap(scene.aim)


def _moving(scene: Scene) -> Cause:
    aim = scene.aim
    if not aim.present:
        return _rolling_back(scene) or _not_created(scene)
    return _rolling_back(scene) or _lacking(scene, aim) or (Reason.STARTING, _started(scene, aim))


def _rolling_back(scene: Scene) -> Cause | None:
    if not scene.has_failed:
        return None
    second = " by a second outage of one model load" if scene.recreates else ""
    return Reason.ROLLING_BACK, f"going back to {scene.aim.name}{second}; {_advice(scene)}"


def _not_created(scene: Scene) -> Cause:
    aim = scene.aim.name
    if scene.recreates and scene.selected.name:
        return (
            Reason.RECREATING,
            f"the pods of {scene.selected.name} go before {aim} is created: nothing serves between",
        )
    waiting = [other.name for other in blockers(scene)] or ([aim] if not scene.aim.gone else [])
    if waiting:
        return Reason.REPLACING, f"{aim} is created when what is left of {', '.join(waiting)} is gone"
    return Reason.STARTING, f"{aim} is being created"


def _lacking(scene: Scene, revision: Revision) -> Cause | None:
    """What a present revision lacks that somebody outside must provide."""
    if given_back := _given_back(scene, revision):
        return given_back
    waiting = revision.live.unschedulable
    if waiting and scene.lacks_capacity:
        grows = revision.name == scene.serving.name
        room = "" if grows else ", or set spec.upgrade.whenNoCapacity: Recreate to accept an outage"
        half = "; nodes that it has are given back and it tries again" if revision.live.half_placed else ""
        return Reason.NO_CAPACITY, f"{revision.name} has no node: {waiting.message}{half}; free or add nodes{room}"
    if waiting:
        return Reason.CAPACITY, f"{revision.name} waits for a node: {waiting.message}"
    if revision.live.complaint:
        return Reason.PODS_BLOCKED, f"pods do not start: {revision.live.complaint}; once that is mended they do"
    return (Reason.PROBE_UNREACHABLE, UNREACHABLE) if revision.live.probe is Probe.UNREACHABLE else None


def _given_back(scene: Scene, revision: Revision) -> Cause | None:
    """A replica of several nodes that got only some of them."""
    taken = held_to(scene, revision)
    if taken is None:
        return None
    message = (
        f"{revision.name} is held to {taken.replicas} of {scene.wanted.replicas.greatest} replicas: one more had nodes "
        f"for some of its pods only, for {most_held(scene):.0f} s (spec.upgrade.capacityTimeoutSeconds, a minute at "
        "least), and gave them back; free or add nodes, or ask for fewer replicas; another number is tried at once"
    )
    return Reason.NO_CAPACITY, message


def _started(scene: Scene, revision: Revision) -> str:
    count = min(revision.live.ready_replicas, revision.live.answered)
    steady = f", for {STEADY_SECONDS:.0f} s before traffic moves" if scene.now < steady_at(scene, revision) else ""
    return f"{revision.name}: {count} of {needed_replicas(scene)} replicas answer{steady}{_mishap(revision)}"


def _degraded(scene: Scene) -> Condition:
    cause = _trouble(scene)
    status = Status.TRUE if cause else Status.FALSE
    reason, message = cause or (Reason.AS_EXPECTED, "nothing needs attention")
    failure = _failure(scene) if reason is Reason.FAILING else None
    is_held = reason is Reason.NO_CAPACITY and held_to(scene, scene.serving)
    again = tries_again_at(scene, scene.serving) if is_held else None
    return Condition(ConditionType.DEGRADED, status, reason, message, failure.reason if failure else "", again)


def _trouble(scene: Scene) -> Cause | None:
    aim = scene.aim
    if scene.has_failed:
        return Reason.FAILING, _advice(scene)
    if aim.present and aim.live.failure and not can_fall_back(scene):
        return (
            Reason.FAILING,
            f"{aim.name}: {_told(aim.live.failure)}; nothing to go back to, so it is kept and retried",
        )
    if aim.present and not answers(scene, aim) and is_overdue(scene, aim):
        return Reason.DEADLINE, f"{aim.name} makes no progress; it is kept and waited for"
    if lacking := _lacking_for_long(scene):
        return lacking
    if scene.selected.present and scene.selected.live.head_lost:
        return Reason.HEAD_LOST, _without_head(scene)
    down = bool(scene.selected.name) and not answers(scene, scene.selected) and not scene.wanted.stopped
    return (Reason.NOT_SERVING, _why_not_serving(scene)) if down else None


def _lacking_for_long(scene: Scene) -> Cause | None:
    """What is no matter of waiting for a node any more; of the revision aimed at first."""
    lacking = _lacking(scene, scene.aim) if scene.aim.present else None
    if lacking and lacking[0] is not Reason.CAPACITY:
        return lacking
    return _given_back(scene, scene.serving) if scene.serving.present else None


def _failure(scene: Scene) -> Failure | None:
    """Why the wanted revision was given up, as its record says, or why its pods cannot serve now."""
    record = scene.wanted_revision.record
    return record.failure if scene.has_failed and record else scene.aim.live.failure


def _without_head(scene: Scene) -> str:
    told = f"the head pod of {scene.selected.name} is lost and KubeRay starts another one; "
    if not scene.selected.live.outlives_head:
        end = "all replicas end within a minute" if answers(scene, scene.selected) else "until then nothing is served"
        return told + end + ". With spec.highAvailability.redis they outlive their head"
    if answers(scene, scene.selected):
        return told + "until then replicas that run go on answering, and none is added or replaced"
    return told + "until then no replica is started, and nothing is served"


def _advice(scene: Scene) -> str:
    failure = _failure(scene)
    told = _told(failure) if failure else "no reason recorded"
    return f"{scene.wanted.revision} failed: {told}; change the spec or spec.restartToken to try again"


def _told(failure: Failure) -> str:
    return f"{failure.reason}: {failure.message}"
