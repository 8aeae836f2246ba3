"""How revisions end: drained first when they had traffic, a failed one kept for reading, room made under Recreate."""

from __future__ import annotations

from typing import Final

from sglang_operator.lifecycle.growth import gives_back, has_half_only
from sglang_operator.lifecycle.observed import Front, Revision
from sglang_operator.lifecycle.plan import Action, CancelDrain, FreeAccelerators, Retire, StartDrain, TryRevision
from sglang_operator.lifecycle.scene import Scene, answers, drains_since, floor_of, is_dead, is_lost
from sglang_operator.lifecycle.wanted import WhenNoCapacity

# Seconds until every node's proxy rules have followed a switch; before that a new connection may still arrive.
SETTLE_SECONDS: Final = 10.0
# Seconds without request and connection that count as drained: longer than a client needs between two requests.
QUIET_SECONDS: Final = 5.0


def end_others(scene: Scene) -> tuple[Action, ...]:
    """The next step towards the end of each revision that is neither aimed at nor serving."""
    if not scene.may_delete:
        return tuple(_retire(scene, other) for other in scene.others if _is_unmade(scene, other))
    aim = scene.aim
    if aim.present and aim.live.released and aim.name != scene.selected.name:
        return (_retire(scene, aim),)  # its accelerators are gone, so this one can only be made anew
    return tuple(action for other in scene.others if other.present for action in _end(scene, other))


def keep_from_draining(scene: Scene) -> tuple[CancelDrain, ...]:
    """Take back an end that is not wanted any more."""
    aim, selected = scene.aim, scene.selected
    if aim.draining_since is not None:
        return (CancelDrain(aim.name),)
    marked = selected.present and selected.draining_since is not None
    return (CancelDrain(selected.name),) if marked and not _must_make_room(scene) else ()


def free_half_placed(scene: Scene) -> tuple[Action, ...]:
    """Give back the nodes of a replica of several pods that lacks others for the whole capacity time-out.

    Two of them may wait for each other's. It is made anew afterwards (`end_others`), with another time-out. The serving
    revision loses its pods only if no replica of it is whole, and gets others when they are gone (`apply_in_place`).
    """
    if not scene.may_delete:
        return ()
    asked = {revision.name: revision for revision in (scene.aim, scene.serving)}.values()
    giving = [revision for revision in asked if not revision.live.released and _gives_all_back(scene, revision)]
    return tuple(FreeAccelerators(revision.name, revision.live.uid, scene.fence) for revision in giving)


def make_room(scene: Scene) -> tuple[Action, ...]:
    """Under Recreate the serving revision goes first. The mark says later that nobody deleted it by mistake."""
    serving, aim = scene.serving, scene.aim
    if not serving.present or not scene.may_delete or not _must_make_room(scene):
        return ()
    # Also after the mark, which does not say for what it was set. Where nothing answers a refusal costs nothing.
    tried = () if aim.present or is_lost(scene, serving) else (TryRevision(aim.name, floor_of(scene, aim)),)
    return *tried, StartDrain(serving.name) if serving.draining_since is None else _retire(scene, serving)


def _gives_all_back(scene: Scene, revision: Revision) -> bool:
    return has_half_only(scene, revision) if revision.name == scene.serving.name else gives_back(scene, revision)


def is_drained(scene: Scene, revision: Revision) -> bool:
    """No work is left on it, or the drain limit is over. A pod that was not heard counts as busy."""
    live = revision.live
    if not (live.may_hold_requests or revision.running):
        return True
    since = drains_since(scene, revision)
    if since is None or scene.now < since + SETTLE_SECONDS:
        return False
    return _is_quiet(scene, live.front) or scene.now >= drain_limit(scene, since)


def drain_limit(scene: Scene, draining_since: float) -> float:
    """When a drain ends whatever is still running. Unix seconds."""
    return draining_since + SETTLE_SECONDS + scene.policy.drain


def _is_quiet(scene: Scene, front: Front | None) -> bool:
    if front is None or front.in_flight or front.quiet_since is None:
        return False
    return scene.now - front.quiet_since >= QUIET_SECONDS


def _must_make_room(scene: Scene) -> bool:
    aim = scene.aim
    if aim.name == scene.serving.name:
        return False
    if not scene.recreates:
        return scene.policy.when_no_capacity is WhenNoCapacity.RECREATE and scene.lacks_capacity
    # A revision that already has its nodes needs no room: an outage would gain nothing.
    others_gone = not any(other.holds_pods for other in scene.others)
    return bool(aim.live.unschedulable) if aim.present else aim.gone and others_gone


def _end(scene: Scene, revision: Revision) -> tuple[Action, ...]:
    is_failed = scene.has_failed and revision.name == scene.wanted.revision
    if revision.name == scene.observed.service.previous and scene.in_trial and not is_failed:
        return ()
    alive = revision.may_answer and not is_dead(scene, revision)
    if alive and not (is_failed or answers(scene, scene.selected) or scene.wanted.stopped):
        return ()  # it is all that could answer
    # Without record and Service nobody can tell it to end, nor knows since when it has: then being dead is enough.
    is_forgotten = not revision.record and drains_since(scene, revision) is None
    over = is_drained(scene, revision) or ((is_failed or is_forgotten) and not alive)
    if _had_traffic(scene, revision) and not over:
        may_be_told = revision.record and revision.draining_since is None
        return (StartDrain(revision.name),) if may_be_told else ()
    return _end_failed(scene, revision) if is_failed else (_retire(scene, revision),)


def _is_unmade(scene: Scene, revision: Revision) -> bool:
    """KubeRay has made nothing of it, so that nothing is lost with it; it may be what KubeRay is silent about."""
    live = revision.live
    return revision.present and not (live.clusters or live.pods) and revision.name != scene.observed.service.previous


def _had_traffic(scene: Scene, revision: Revision) -> bool:
    """Requests of clients may be on it. A Service or a record that somebody deleted has taken its memory along."""
    service = scene.observed.service
    forgotten = not (service.resource_version and revision.record) and revision.live.may_hold_requests
    return revision.name == service.previous or revision.draining_since is not None or forgotten


def _end_failed(scene: Scene, revision: Revision) -> tuple[Action, ...]:
    if not revision.live.released:
        return (FreeAccelerators(revision.name, revision.live.uid, scene.fence),)
    failure = revision.record.failure if revision.record else None
    kept = failure is not None and scene.now < failure.at + scene.policy.keep_failed
    return () if kept else (_retire(scene, revision),)


def _retire(scene: Scene, revision: Revision) -> Retire:
    return Retire(revision.name, revision.live.uid, scene.fence)
