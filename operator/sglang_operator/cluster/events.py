"""Kubernetes Events: ours, on transitions only, which `kubectl describe` shows; and what others say in theirs."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from sglang_operator.api import API_VERSION, KIND
from sglang_operator.cluster.api import Api, ApiError
from sglang_operator.cluster.metadata import Owner, stamp, unix
from sglang_operator.cluster.paths import EVENT

COMPONENT: Final = "sglang-operator"
LONGEST: Final = 1024  # of a message, as the API server allows
READ_SECONDS: Final = 5.0  # for all that a pass asks over one revision: it waits for the answers
FEW: Final = 50  # events about one object: whoever writes them sends 25 at once and then one in five minutes
# A condition that becomes so is worth a warning; any other transition is news.
_BAD: Final = {("Ready", "False"), ("Degraded", "True"), ("Accepted", "False")}

Object = dict[str, Any]


def transitions(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Conditions whose status or reason is another one than before. What is new has no transition yet."""
    known = {one["type"]: (one["status"], one["reason"]) for one in before}
    for one in after:
        was, now = known.get(one["type"]), (one["status"], one["reason"])
        if was is not None and was != now:
            yield one


def event_of(owner: Owner, condition: Mapping[str, Any], now: float) -> Object:
    """The Event that tells of a condition."""
    is_bad = (condition["type"], condition["status"]) in _BAD
    reference = {"apiVersion": API_VERSION, "kind": KIND, "namespace": owner.key.namespace}
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{owner.key.name}.{uuid.uuid4().hex[:16]}", "namespace": owner.key.namespace},
        "involvedObject": {**reference, "name": owner.key.name, "uid": owner.uid},
        "type": "Warning" if is_bad else "Normal",
        "reason": condition["reason"],
        "message": f"{condition['type']} is {condition['status']}: {condition['message']}"[:LONGEST],
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "firstTimestamp": stamp(now),
        "lastTimestamp": stamp(now),
        "count": 1,
    }


async def read_events(api: Api, namespace: str, fields: str, most: int = FEW) -> Sequence[Mapping[str, Any]]:
    """Those that a field selector picks, the first `most` by name. The API server reads all of the namespace for it, so
    ask rarely, and for READ_SECONDS. () without the right to read them, as under the role of an earlier chart: the rest
    of the status does without. Raises ApiError where nobody knows what they tell."""
    query = urlencode({"fieldSelector": fields, "limit": most})
    try:
        found: Sequence[Mapping[str, Any]] = (await api.get(f"{EVENT.of(namespace)}?{query}"))["items"]
    except ApiError as error:
        if error.is_forbidden:
            return ()
        raise
    return found


def last_seen(event: Mapping[str, Any]) -> float:
    """Unix seconds when it last happened."""
    series = event.get("series") or {}
    return unix(series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime"))
