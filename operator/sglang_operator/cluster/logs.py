"""What a replica's log says of its start: the step it is at, or why it cannot serve. Parsing is pure."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sglang_operator.cluster.api import Api, ApiError
from sglang_operator.cluster.metadata import name_of, read_seconds, unix
from sglang_operator.cluster.paths import POD
from sglang_operator.cluster.tries import latest_gain
from sglang_operator.lifecycle.observed import Failure

CONTAINER: Final = "ray-worker"
TAIL_LINES: Final = 400
READ_SECONDS: Final = 4.0  # a node that has died answers never, and the whole pass waits
LIMIT_BYTES: Final = 1_048_576  # of one answer; it is cut at its end, which is what matters here
KEPT_LINES: Final = 20  # in status and record
LONGEST_LINE: Final = 400
# Characters of an event's fields: a condition takes 32 768 and has several messages, an Event's reason takes 128.
LONGEST: Final = {"time": 40, "event": 40, "step": 40, "reason": 100, "message": 4000, "remedy": 4000}
CRASHED: Final = "EngineCrashed"
ENGINE_DEATHS: Final = 3  # of engines that had started, until the revision counts as one that crashes
DEATHS_SECONDS: Final = 3600.0  # within which they count: three in a month are three mishaps
# A retry may mend these, so they fail a revision only through its progress deadline.
RETRIED: Final = frozenset({"DownloadFailed"})
# Whatever may run in a pod writes there: half lines, JSON of another shape, brackets without an end, a year 0.
_ODD: Final = (ValueError, TypeError, KeyError, OverflowError, RecursionError)

Event = Mapping[str, str]
"""The fields in LONGEST that a line has."""


@dataclass(frozen=True)
class Said:
    """What a log tells."""

    step: str = ""
    message: str = ""
    at: float = 0.0
    """Unix seconds of the latest step that is progress, 0 if it tells of none: trying again is none, until it comes
    further than before."""
    failure: Failure | None = None
    mishap: str = ""
    """Why the last try ended, while the next one is under way; "" once that is ready."""
    is_unread: bool = False
    """Nobody knows what it tells."""


UNREAD: Final = Said(message=f"the log of its worker could not be read within {READ_SECONDS:.0f} s", is_unread=True)


async def read_log(api: Api, pod: Mapping[str, Any]) -> str | None:
    """The end of the log of a worker's container; "" while it has none, None if it could not be read in time."""
    path = POD.of(pod["metadata"]["namespace"], name_of(pod), "log")
    try:
        async with asyncio.timeout(READ_SECONDS):
            return await _read_end(api, path)
    except TimeoutError:
        return None
    except ApiError:  # the container waits, is gone, or its node does not answer: the pod's status tells the rest
        return ""


async def _read_end(api: Api, path: str) -> str:
    text = ""
    for lines in (TAIL_LINES, KEPT_LINES):
        text = await api.text(path, container=CONTAINER, tailLines=str(lines), limitBytes=str(LIMIT_BYTES))
        if len(text.encode()) < LIMIT_BYTES:
            break
    return text


def parse_log(text: str) -> Said:
    """The latest step, and the failure that it ended in, if no retry mends that."""
    lines = text.splitlines()
    events = list(_events(lines))
    steps = [event for event in events if event["event"] == "progress"]
    latest: Event = steps[-1] if steps else {}
    return Said(
        step=latest.get("step", ""),
        message=latest.get("message", ""),
        at=unix(latest_gain(steps).get("time")),
        failure=_failure(events, _tail(lines)),
        mishap=_mishap(events),
    )


def _mishap(events: list[Event]) -> str:
    # Its death may be all that the end of the log still has of an engine that ran for long.
    ends = [event for event in _since_ready(events) if _is_end(event)]
    if not ends:
        return ""
    return f"{_reason(ends[-1])}: {_message(ends[-1])}"


def _reason(event: Event) -> str:
    return event.get("reason") or "EngineFailed"


def _message(event: Event) -> str:
    return "; ".join(filter(None, (event.get("message"), event.get("remedy"))))


def _since_ready(events: list[Event]) -> list[Event]:
    """What came after the last time that it was ready; all, if it never was."""
    return events[max((number for number, event in enumerate(events, 1) if event.get("step") == "ready"), default=0) :]


def _is_end(event: Event) -> bool:
    return event["event"] == "engine_died" or event.get("step") == "failed"


def _failure(events: list[Event], tail: tuple[str, ...]) -> Failure | None:
    """Nothing of what was before it was ready: a later try has mended that."""
    failed = [event for event in _since_ready(events) if event.get("step") == "failed"]
    if failed and failed[-1].get("reason") not in RETRIED:
        last = failed[-1]
        return Failure(_reason(last), _message(last), unix(last.get("time")), tail)
    died = _deaths(events)
    if len(died) >= ENGINE_DEATHS:
        message = f"the engine ended {len(died)} times after it had started: {_mishap(died)}"
        return Failure(CRASHED, message, unix(died[-1].get("time")), tail)
    return None


def _deaths(events: list[Event]) -> list[Event]:
    """Of engines that had started, in the hour before the last one; none once another engine is ready."""
    if not any(event["event"] == "engine_died" for event in _since_ready(events)):
        return []
    died = [event for event in events if event["event"] == "engine_died"]
    last = unix(died[-1].get("time"))
    return [event for event in died if unix(event.get("time")) > last - DEATHS_SECONDS]


def _events(lines: list[str]) -> Iterator[Event]:
    for line in lines:
        if line.startswith('{"time"'):
            try:
                yield _event(json.loads(line))
            except _ODD:
                continue


def _event(said: Mapping[str, Any]) -> Event:
    """As texts that status has room for. Raises what is in _ODD if it is no event."""
    event = {name: str(said[name])[:longest] for name, longest in LONGEST.items() if said.get(name) is not None}
    if read_seconds(unix(event.get("time"))) is None or "event" not in event:
        raise ValueError
    return event


def _tail(lines: list[str]) -> tuple[str, ...]:
    return tuple(line[:LONGEST_LINE] for line in lines[-KEPT_LINES:])
