"""The one thing that moves traffic: what the endpoint's Service selects."""

from __future__ import annotations

from sglang_operator.lifecycle.observed import Probe, Revision
from sglang_operator.lifecycle.plan import Action, CancelDrain, SwitchService
from sglang_operator.lifecycle.scene import Scene, is_lost, is_proven, number


def move_traffic(scene: Scene) -> tuple[Action, ...]:
    """Switch to the revision aimed at once it is proven; away from one that answers nothing to any that does."""
    target = _target(scene)
    service = scene.observed.service
    if target is None or target.name == service.revision:
        return ()
    switch = SwitchService(target.name, service.revision or _left_behind(scene, target), scene.fence)
    # A front that still sends clients away would be the wrong one to send them to.
    return (switch,) if target.draining_since is None else (CancelDrain(target.name), switch)


def _target(scene: Scene) -> Revision | None:
    if is_proven(scene, scene.aim):
        return scene.aim
    if not is_lost(scene, scene.selected) or scene.wanted.stopped:
        return None
    return max(_rescuers(scene), key=lambda revision: (revision.name == scene.aim.name, number(revision)), default=None)


def _left_behind(scene: Scene, target: Revision) -> str:
    """What had traffic before, when somebody has deleted the Service that remembers it: its requests go on."""
    others = [other for other in scene.observed.revisions if other.present and other.name != target.name]
    had = [other for other in others if other.draining_since is not None or other.live.may_hold_requests]
    return max(had, key=number).name if had else ""


def _rescuers(scene: Scene) -> list[Revision]:
    """Revisions whose engines answer now, while the selected one does not."""
    failed = scene.wanted.revision if scene.has_failed else ""
    return [
        revision
        for revision in scene.observed.revisions
        if revision.running
        and revision.live.probe is Probe.ANSWERED
        and revision.live.answered
        and not revision.live.released
        and revision.name != failed
    ]
