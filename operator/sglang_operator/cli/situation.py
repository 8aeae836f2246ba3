"""What the status of an endpoint comes to, in words. Pure: from the stored object to text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from sglang_operator.lifecycle.reasons import Reason, Status

Object = Mapping[str, Any]
_LOG_LINES: Final = 5  # of a failed revision; all that is kept is in status
# Reasons of condition Progressing with which what the spec asks for serves.
_DONE: Final = frozenset({Reason.COMPLETE.value, Reason.DRAINING.value})
# Reasons that no waiting mends: the revision was tried and is given up, or is tried again and again in vain, or some
# object of the endpoint is none that the cluster takes.
_FAILED: Final = frozenset(
    one.value
    for one in (Reason.ROLLED_BACK, Reason.ROLLING_BACK, Reason.FAILING, Reason.DEADLINE, Reason.INVALID_OBJECT)
)
_UNSEEN: Final = (
    "the operator has not looked at this version of the spec yet: is it running, and does it watch this namespace? "
    "`kubectl get deployments -A -l app.kubernetes.io/name=sglang-operator`"
)


class Outcome(Enum):
    """What waiting for the endpoint comes to."""

    ARRIVED = "Arrived"
    WAITING = "Waiting"
    FAILED = "Failed"


@dataclass(frozen=True)
class Situation:
    """Where an endpoint is on its way to its spec: the outcome so far, why in one word, and what is said of it."""

    outcome: Outcome
    reason: str
    message: str


def situation_of(endpoint: Object) -> Situation:
    """The spec is served (also: by nobody, as it asks), it has failed, or it is on its way."""
    status = endpoint.get("status") or {}
    if status.get("observedGeneration", 0) < endpoint["metadata"]["generation"]:
        return Situation(Outcome.WAITING, "NotSeen", _UNSEEN)
    found = {one["type"]: one for one in status.get("conditions") or ()}
    accepted, ready = found.get("Accepted") or {}, found.get("Ready") or {}
    going, degraded = found.get("Progressing") or {}, found.get("Degraded") or {}
    if accepted.get("status") == Status.FALSE.value:
        return _situation(Outcome.FAILED, accepted)
    if failed := next((one for one in (degraded, going) if one.get("reason") in _FAILED), None):
        return _situation(Outcome.FAILED, failed)
    if ready.get("reason") == Reason.STOPPED.value and going.get("reason") != Reason.PAUSED.value:
        return _situation(Outcome.ARRIVED, ready)
    if ready.get("status") == Status.TRUE.value and going.get("reason") in _DONE:
        return _situation(Outcome.ARRIVED, ready)
    return _waiting(status, going or ready)


def _waiting(status: Object, condition: Object) -> Situation:
    """With the latest line of the log of what is on its way, where that tells more than the condition."""
    updating = status.get("updating") or {}
    if condition.get("reason") == Reason.STARTING.value and updating.get("progress"):
        step = f"{updating['revision']}: {updating['step']}: {updating['progress']}"
        return Situation(Outcome.WAITING, condition["reason"], step)
    return _situation(Outcome.WAITING, condition)


def _situation(outcome: Outcome, condition: Object) -> Situation:
    return Situation(outcome, condition.get("reason", "Unknown"), condition.get("message", "nothing is reported yet"))


def lines(endpoint: Object) -> Iterator[str]:
    """The whole of it for people: is it up, if not why, what serves, what is on its way, what was before."""
    metadata, status = endpoint["metadata"], endpoint.get("status") or {}
    here = situation_of(endpoint)
    yield f"{metadata['namespace']}/{metadata['name']}: {here.reason}: {here.message}"
    rows = [*_conditions(status), *_facts(status), *_adapters(status)]
    width = max((len(name) for name, _ in rows), default=0)
    yield from (f"  {name:<{width}}  {text}" for name, text in rows)
    yield from _revisions(status)


def _conditions(status: Object) -> Iterator[tuple[str, str]]:
    for one in status.get("conditions") or ():
        said = one["message"].replace("\n", "\n      ")
        yield one["type"], f"{one['status']:<7} {one['reason']}: {said}"


def _facts(status: Object) -> Iterator[tuple[str, str]]:
    if "url" in status:
        yield "url", f"{status['url']}/v1"
    if "desiredReplicas" in status:
        yield "replicas", f"{status.get('readyReplicas', 0)} of {status['desiredReplicas']} answer"
    held = status.get("accelerators") or {}
    if held.get("allocated"):
        yield "accelerators", f"{held['allocated']} held, {held.get('rollout', 0)} of them by what does not serve"
    if serving := status.get("serving"):
        commit = f" @ {serving['modelCommit']}" if serving.get("modelCommit") else ""
        yield "serving", f"{serving['revision']}: {serving.get('model', '')}{commit}, {serving.get('image', '')}"
    if updating := status.get("updating"):
        yield "updating", _on_its_way(updating)


def _on_its_way(updating: Object) -> str:
    changed = ", ".join(updating.get("changed") or ())
    step = f"{updating['revision']}: {updating['step']}"
    return " ".join(filter(None, (step, updating.get("progress"), changed and f"(changed: {changed})")))


def _adapters(status: Object) -> Iterator[tuple[str, str]]:
    for one in status.get("adapters") or ():
        yield f"adapter {one['name']}", " ".join(filter(None, (one["state"], one.get("replicas"), one.get("message"))))


def _revisions(status: Object) -> Iterator[str]:
    for one in status.get("revisions") or ():
        cause = f": {one['reason']}: {one['message']}" if one.get("reason") else ""
        yield f"  revision {one.get('number', '?')}  {one['name']}  {one.get('state', '')}{cause}"
        yield from (f"    | {line}" for line in (one.get("log") or ())[-_LOG_LINES:])
