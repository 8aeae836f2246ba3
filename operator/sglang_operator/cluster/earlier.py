"""What earlier passes have told in status, which is all that is kept of what they saw. Pure."""

from __future__ import annotations

from typing import Any, Final

from sglang_operator.cluster.metadata import condition_of, unix
from sglang_operator.cluster.selection import read_selection
from sglang_operator.cluster.snapshot import Snapshot
from sglang_operator.lifecycle.observed import Revision
from sglang_operator.lifecycle.reasons import ConditionType, Reason, Status

# Nothing was on its way: what makes no progress now has been asked to since. Other reasons of a condition that is
# False, as RefusedByCluster, tell of what is in the way of something, and its time counts.
_DONE: Final = frozenset({Reason.COMPLETE.value, Reason.ROLLED_BACK.value})


def unanswered_since(snapshot: Snapshot) -> float | None:
    """Condition Ready is the memory of earlier looks: each pass writes it, and status says of which revision."""
    ready, selection = condition_of(snapshot.endpoint, ConditionType.READY.value), read_selection(snapshot.service)
    serving = _status(snapshot).get("serving") or {}
    if ready.get("status") != Status.FALSE.value or serving.get("revision") != selection.revision:
        return None
    return max(unix(ready["lastTransitionTime"]), selection.switched_at)


def resumed_at(snapshot: Snapshot, now: float) -> float:
    """Condition Progressing is unknown while the endpoint is paused or KubeRay silent, and changes its time after that
    and after it was false; in the pass that finds it so it has not yet."""
    going = condition_of(snapshot.endpoint, ConditionType.PROGRESSING.value)
    was_still = going.get("status") == Status.UNKNOWN.value or going.get("reason") in _DONE
    return now if was_still else unix(going.get("lastTransitionTime"))


def counts_from(snapshot: Snapshot, wanted: Revision, now: float) -> float:
    """Since when time counts for what is wanted: status.updating says so in every pass in which it does."""
    known = _status(snapshot).get("updating") or {}
    stamped = known.get("countsFrom") if known.get("revision") == wanted.name else None
    return now if stamped is None or wanted.begins_anew else unix(stamped)


def _status(snapshot: Snapshot) -> dict[str, Any]:
    return snapshot.endpoint.get("status") or {}
