"""Whether the wanted revision has failed. Only a revision with somewhere to go back to is ever given up."""

from __future__ import annotations

from dataclasses import replace

from sglang_operator.lifecycle.observed import Failure, Revision
from sglang_operator.lifecycle.plan import RememberFailure
from sglang_operator.lifecycle.reasons import Reason
from sglang_operator.lifecycle.retire import drain_limit
from sglang_operator.lifecycle.scene import LOST_SECONDS, Scene, answers, has_enough, is_lost, number


def remember_failure(scene: Scene) -> tuple[RememberFailure, ...]:
    """Write down why the wanted revision failed. Nothing of it is taken down before a later pass reads that record."""
    failure = _judge(scene)
    if failure is None:
        return ()
    # spec.upgrade.keepFailedSeconds begins now: what the log tells may be of long ago, when there was no way back.
    given_up = replace(failure, at=scene.now)
    return (RememberFailure(scene.wanted.revision, number(scene.wanted_revision), given_up),)


def is_overdue(scene: Scene, revision: Revision) -> bool:
    """No progress for the whole deadline. Time without a node is not counted, nor time that nobody watched."""
    if revision.live.progress is None or scene.observed.kuberay_silent or scene.wanted.stopped:
        return False
    return not revision.is_excused and idle_seconds(scene, revision) >= scene.policy.progress_deadline


def idle_seconds(scene: Scene, revision: Revision) -> float:
    """Counted seconds since the last progress of a revision that has `progress`."""
    return 0.0 if revision.live.progress is None else scene.now - counts_from(scene, revision)


def gives_up_at(scene: Scene, revision: Revision) -> float | None:
    """When a revision that has no node at all has failed, although the one before it made room; None where none has.

    Its pods may have waited beside that one: then there was room by the end of the drain, later than which no pod
    stays but those of a lost node. Ones that are younger than the mark had the room from their beginning, or nearly.
    """
    back, waiting = scene.fallback, revision.live.unschedulable
    if waiting is None or waiting.queued or revision.live.placed:
        return None
    if not back.gone or back.draining_since is None or not can_fall_back(scene):
        return None
    room = waiting.since if waiting.since > back.draining_since else drain_limit(scene, back.draining_since)
    begins = max(room, revision.live.progress or 0.0, scene.observed.resumed_at)
    return begins + scene.policy.capacity_timeout


def counts_from(scene: Scene, revision: Revision) -> float:
    """When the progress deadline begins: with the last progress, or anew after time in which there could be none.

    Time without a node and the like is not only passed over: all of it would fall due at once when it ends.
    """
    excused = scene.observed.counts_from if revision.name == scene.wanted.revision else 0.0
    return max(revision.live.progress or 0.0, scene.observed.resumed_at, excused)


def can_fall_back(scene: Scene) -> bool:
    """There is a healthy predecessor: one that answers now, or one that made room under Recreate."""
    back = scene.fallback
    if not back.record or back.name == scene.wanted.revision:
        return False
    return answers(scene, back) or _made_room(scene, back)


def _made_room(scene: Scene, back: Revision) -> bool:
    """It answered until it was told to go, as far as single looks that miss it and whole seconds in status can tell."""
    if back.name != scene.selected.name or back.present or back.draining_since is None:
        return False
    since = scene.observed.unanswered_since
    return since is None or since > back.draining_since - LOST_SECONDS


def _judge(scene: Scene) -> Failure | None:
    revision = scene.wanted_revision
    tried = scene.is_recorded and revision.present and not revision.live.released
    if scene.has_failed or not tried or not scene.may_delete or scene.wanted.stopped or not can_fall_back(scene):
        return None
    return _judge_new(scene, revision) if revision.name != scene.selected.name else _judge_selected(scene, revision)


def _judge_new(scene: Scene, revision: Revision) -> Failure | None:
    # A pass that comes late may find the deadline over and the revision done: then it is done.
    if revision.live.failure or has_enough(scene, revision):
        return revision.live.failure
    return _judge_overdue(scene, revision) or _judge_unplaced(scene, revision)


def _judge_overdue(scene: Scene, revision: Revision) -> Failure | None:
    """With what was in the way: the pods that tell of it go, and their events."""
    if not is_overdue(scene, revision):
        return None
    message = f"no progress for {idle_seconds(scene, revision):.0f} s (spec.upgrade.progressDeadlineSeconds)"
    why = revision.live.complaint or revision.live.mishap
    return Failure(Reason.DEADLINE.value, f"{message}: {why}" if why else message, at=scene.now)


def _judge_unplaced(scene: Scene, revision: Revision) -> Failure | None:
    """The outage was to be one of a model load: what room does not cure must not keep it for ever."""
    at, waiting = gives_up_at(scene, revision), revision.live.unschedulable
    if at is None or waiting is None or scene.now < at:
        return None
    message = (
        f"no node although {scene.fallback.name} made room (spec.upgrade.capacityTimeoutSeconds): {waiting.message}"
    )
    return Failure(Reason.NO_CAPACITY.value, message, at=scene.now)


def _judge_selected(scene: Scene, revision: Revision) -> Failure | None:
    trial = scene.in_trial
    lost = is_lost(scene, revision)
    if not lost and not trial:
        return None
    if revision.live.failure or not lost or not trial:
        return revision.live.failure
    message = "no replica answers any more, within spec.upgrade.minReadySeconds of the switch"
    return Failure(Reason.LOST_AFTER_SWITCH.value, message, at=scene.now)
