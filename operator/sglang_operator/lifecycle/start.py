"""How revisions begin: recorded, created, restored; and what reaches running ones in place."""

from __future__ import annotations

from sglang_operator.lifecycle.growth import has_half_only, taken_back
from sglang_operator.lifecycle.observed import Revision
from sglang_operator.lifecycle.plan import ApplyInPlace, CreateRevision, ForgetRecord, RecordRevision
from sglang_operator.lifecycle.scene import Scene, floor_of, number


def record_wanted(scene: Scene) -> tuple[RecordRevision, ...]:
    """The wanted revision has a record, and the newest one, before anything is made from it."""
    return () if scene.is_recorded else (RecordRevision(scene.wanted.revision, scene.observed.newest_number + 1),)


def restore_serving(scene: Scene) -> tuple[CreateRevision, ...]:
    """Create the serving revision again when somebody deleted it; not when it made room for another."""
    selected = scene.selected
    deleted = bool(selected.name) and selected.gone and selected.record and selected.draining_since is None
    is_failed = scene.has_failed and selected.name == scene.wanted.revision
    if not deleted or is_failed or scene.recreates:
        return ()
    return (CreateRevision(selected.name, scene.fence, floor_of(scene, selected)),)


def create_aim(scene: Scene) -> tuple[CreateRevision, ...]:
    """Create the revision aimed at once its name is free and no other revision holds pods beside the serving one."""
    aim = scene.aim
    if not aim.gone or blockers(scene):
        return ()
    return (CreateRevision(aim.name, scene.fence, floor_of(scene, aim)),)


def blockers(scene: Scene) -> tuple[Revision, ...]:
    """Revisions whose pods must be gone before the one aimed at is created."""
    serving = scene.serving
    beside = (serving,) if scene.recreates and serving.name != scene.aim.name else ()
    return tuple(other for other in (*scene.others, *beside) if _is_in_the_way(scene, other))


def apply_in_place(scene: Scene) -> tuple[ApplyInPlace, ...]:
    """Bounds and settings go to every revision that may serve, so that they hold whichever of them does."""
    return tuple(
        wanted
        for revision in scene.observed.revisions
        if revision.name in {scene.aim.name, scene.serving.name, scene.observed.service.previous}
        and revision.present
        and revision.record  # without one nobody knows what to put the values into
        and (_comes_back(scene, revision) if revision.live.released else not has_half_only(scene, revision))
        and not _is_going(scene, revision)
        and ((wanted := _in_place(scene, revision)) != _written(revision) or revision.live.released)
    )


def _is_going(scene: Scene, revision: Revision) -> bool:
    """It has its mark, and what shall follow it is there: one that serves until that is not refused any more stays."""
    stays = revision.name == scene.serving.name and not scene.aim.present
    return revision.draining_since is not None and not stays


def _comes_back(scene: Scene, revision: Revision) -> bool:
    """It had half of a replica and no whole one, and gave that back. Nothing of it is left, so it tries again."""
    return revision.name == scene.serving.name and not revision.live.worker_pods


def _in_place(scene: Scene, revision: Revision) -> ApplyInPlace:
    settings, holding = scene.wanted.settings_of(revision.name), _goes_on_holding(scene, revision)
    return ApplyInPlace(revision.name, settings, floor_of(scene, revision), holding, taken_back(scene, revision))


def _written(revision: Revision) -> ApplyInPlace:
    live = revision.live
    return ApplyInPlace(revision.name, live.settings, live.floor, live.holding, live.taken_back)


def _goes_on_holding(scene: Scene, revision: Revision) -> bool:
    """It was allowed to be without a replica and is, and shall have one now. Until that answers, only its head does."""
    live = revision.live
    holds = live.holds or live.may_hold  # a head that is out of the Service for a moment comes back
    held = live.holding if live.released else holds  # one that has given all its pods back comes back as it was
    return held and not revision.running and scene.wanted.replicas.least > 0


def forget_records(scene: Scene) -> tuple[ForgetRecord, ...]:
    """Drop the oldest records of which nothing else is left, beyond historyLimit."""
    service = scene.observed.service
    used = {scene.wanted.revision, scene.aim.name, service.revision, service.previous}
    past = [
        revision
        for revision in scene.observed.revisions
        if revision.record and revision.gone and revision.name not in used
    ]
    past.sort(key=number, reverse=True)
    return tuple(ForgetRecord(revision.name) for revision in past[scene.policy.history_limit :])


def _is_in_the_way(scene: Scene, other: Revision) -> bool:
    kept_for_reading = scene.has_failed and other.name == scene.wanted.revision and other.live.released
    return other.live.worker_pods > 0 if kept_for_reading else other.holds_pods
