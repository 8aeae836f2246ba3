"""How revisions begin: recorded, created, restored; and what reaches running ones in place."""

from __future__ import annotations

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
    settings = scene.wanted.settings
    return tuple(
        ApplyInPlace(revision.name, settings, floor_of(scene, revision))
        for revision in scene.observed.revisions
        if revision.name in {scene.aim.name, scene.serving.name, scene.observed.service.previous}
        and revision.present
        and revision.record  # without one nobody knows what to put the values into
        and not revision.live.released
        and revision.draining_since is None
        and (revision.live.settings, revision.live.floor) != (settings, floor_of(scene, revision))
    )


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
