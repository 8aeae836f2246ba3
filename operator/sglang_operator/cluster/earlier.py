"""What earlier passes have told in status, which is all that is kept of what they saw. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from sglang_operator.cluster.metadata import condition_of, unix
from sglang_operator.cluster.selection import read_selection
from sglang_operator.cluster.snapshot import Snapshot
from sglang_operator.lifecycle.observed import Revision
from sglang_operator.lifecycle.reasons import Condition, ConditionType, Reason, Status

# Nothing was on its way: what makes no progress now has been asked to since. Other reasons of a condition that is
# False, as RefusedByCluster, tell of what is in the way of something, and its time counts.
_DONE: Final = frozenset({Reason.COMPLETE.value, Reason.ROLLED_BACK.value})
# What events tell, or lead to; and what is said of the same state by a pass that knows of none.
_BY_EVENTS: Final = frozenset({Reason.PODS_BLOCKED.value, Reason.FAILING.value, Reason.DEADLINE.value})
_WITHOUT: Final = frozenset(
    {
        Reason.STARTING,
        Reason.RECOVERING,
        Reason.PROBE_UNREACHABLE,
        Reason.AS_EXPECTED,
        Reason.NOT_SERVING,
        Reason.HEAD_LOST,
    }
)


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


def is_counted(snapshot: Snapshot, revision: str) -> bool:
    """The latest pass found no reason why time should not count for it."""
    known = _status(snapshot).get("updating") or {}
    return known.get("revision") == revision and "countsFrom" in known


def was_silent(snapshot: Snapshot) -> bool:
    """KubeRay was, as the latest pass found it."""
    going = condition_of(snapshot.endpoint, ConditionType.PROGRESSING.value)
    return bool(going.get("reason") == Reason.KUBERAY_SILENT.value)


def told(snapshot: Snapshot, found: Iterable[Condition], *, unread: bool) -> tuple[Condition, ...]:
    """The conditions of a pass. Where events are `unread`, what they told earlier passes over the same spec stays."""
    return tuple(_as_before(snapshot.endpoint, one) or one if unread else one for one in found)


def _as_before(live: Mapping[str, Any], found: Condition) -> Condition | None:
    before = condition_of(live, found.type.value)
    is_of_spec = before.get("observedGeneration") == live["metadata"].get("generation")
    if found.reason not in _WITHOUT or before.get("reason") not in _BY_EVENTS or not is_of_spec:
        return None
    reason, message = Reason(before["reason"]), str(before["message"])
    word = str(live["status"].get("reason", ""))  # of a revision that fails, what its pods say
    failure = word if reason is Reason.FAILING and f" {word}: " in message else ""
    return Condition(found.type, Status(before["status"]), reason, message, failure)


def _status(snapshot: Snapshot) -> dict[str, Any]:
    return snapshot.endpoint.get("status") or {}
