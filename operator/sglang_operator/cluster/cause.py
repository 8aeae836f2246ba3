"""Why an endpoint does not serve: in one word, which `kubectl get` shows, and in the message of condition Ready. Pure.

Other conditions know the cause, each for its own part; here it is one of them, so that one line answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from sglang_operator.lifecycle.reasons import Condition, ConditionType, Reason, Status

UNSEEN: Final = Condition(ConditionType.READY, Status.FALSE, Reason.NOT_SERVING, "no revision is known to serve")


def explained(found: Sequence[Condition], known: Sequence[Mapping[str, Any]]) -> tuple[str, list[Condition]]:
    """The word, and what was found with condition Ready naming the cause while nothing serves.

    `known` is how status has the conditions: a pass that could not read or understand all finds some of them only.
    """
    ready, cause = _one(found, ConditionType.READY), _cause(found)
    before = next((one for one in known if one["type"] == ConditionType.READY.value), None)
    if ready is None and before and (before["status"] == Status.TRUE.value or cause is None):
        return str(before["reason"]), list(found)
    ready = ready or UNSEEN
    if ready.status is Status.TRUE or cause is None:
        return ready.reason.value, list(found)
    told = replace(ready, message=_with(ready.message, cause))
    rest = found if ready in found else (*found, told)
    return cause.failure or cause.reason.value, [told if one.type is told.type else one for one in rest]


def _cause(found: Sequence[Condition]) -> Condition | None:
    """What is in the way of an endpoint that shall serve: the nearest to what somebody can mend comes first."""
    accepted, ready = _one(found, ConditionType.ACCEPTED), _one(found, ConditionType.READY)
    if accepted and accepted.status is Status.FALSE:
        return accepted
    if ready and ready.reason is Reason.STOPPED:
        return None
    degraded = _one(found, ConditionType.DEGRADED)
    if degraded and degraded.status is Status.TRUE and degraded.reason is not Reason.NOT_SERVING:
        return degraded
    return _one(found, ConditionType.PROGRESSING)


def _with(message: str, cause: Condition) -> str:
    is_said = cause.reason is Reason.RECOVERING  # that no replica is ready is what Ready says anyway
    return message if is_said else f"{message}; {cause.message}"


def _one(found: Sequence[Condition], kind: ConditionType) -> Condition | None:
    return next((one for one in found if one.type is kind), None)
