"""How the serving revision grows where a replica takes several pods: by whole ones, or back to those that it has."""

from __future__ import annotations

from typing import Final

from sglang_operator.lifecycle.observed import Revision, TakenBack
from sglang_operator.lifecycle.scene import Scene

# Least time from giving nodes back to the next try: Ray's autoscaler ends what is idle after a minute, and a pod that
# ends may take as long again.
PAUSE_SECONDS: Final = 300.0
# Least time that half a replica holds its nodes, whatever the time-out: the scheduler places one pod after the other.
HELD_SECONDS: Final = 60.0


def taken_back(scene: Scene, revision: Revision) -> TakenBack | None:
    """What it shall be told: no more replicas than are whole, since a further one has held nodes in vain for too long;
    or what it has been told, as long as that holds. What is whole is never touched; where nothing is, see
    `has_half_only`.
    """
    known, whole = held_to(scene, revision), revision.live.whole
    more = known.replicas if known else scene.wanted.replicas.greatest
    return TakenBack(whole, scene.now) if 0 < whole < more and _holds_half_for_long(scene, revision) else known


def has_half_only(scene: Scene, revision: Revision) -> bool:
    """It serves, no replica of it is whole, and the pods that one has of several have held nodes in vain for too long.

    There is nothing to go back to: it loses all of them, and gets others as soon as they are gone.
    """
    return not revision.live.whole and _holds_half_for_long(scene, revision)


def _holds_half_for_long(scene: Scene, revision: Revision) -> bool:
    """Of what serves. Another number that somebody has just written is tried first."""
    is_as_asked = scene.wanted.settings_of(revision.name) == revision.live.settings
    return revision.name == scene.serving.name and is_as_asked and scene.may_delete and gives_back(scene, revision)


def gives_back(scene: Scene, revision: Revision) -> bool:
    """It has held the nodes of half a replica in vain for long enough."""
    at = gives_back_at(scene, revision)
    return at is not None and scene.now >= at


def gives_back_at(scene: Scene, revision: Revision) -> float | None:
    """When the nodes of half a replica have been held in vain for long enough; None where none are."""
    half, waiting = revision.live.half_placed_since, revision.live.unschedulable
    if half is None or waiting is None or not revision.present:
        return None
    return max(half, waiting.since) + most_held(scene)


def most_held(scene: Scene) -> float:
    """For how long half a replica holds its nodes, in seconds."""
    return max(scene.policy.capacity_timeout, HELD_SECONDS)


def held_to(scene: Scene, revision: Revision) -> TakenBack | None:
    """What it has been told and still holds: until the next try, or until somebody edits what reaches it in place.

    Not where traffic is to go: that needs as many replicas as what serves.
    """
    live, is_next = revision.live, revision.name == scene.aim.name != scene.serving.name
    if live.taken_back is None or is_next or live.settings != scene.wanted.settings_of(revision.name):
        return None
    again = tries_again_at(scene, revision)
    return live.taken_back if again is None or scene.now < again else None


def tries_again_at(scene: Scene, revision: Revision) -> float | None:
    """When a further replica is tried again although nobody asks for it; None where none was given back, and while
    another revision is rolled out, which shall have the nodes."""
    taken = revision.live.taken_back
    if taken is None or revision.name != scene.aim.name:
        return None
    return taken.at + max(scene.policy.capacity_timeout, PAUSE_SECONDS)
