"""What a replica's log says of its start: the step it is at, or why it cannot serve. Parsing is pure."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sglang_operator.cluster.api import Api, ApiError
from sglang_operator.cluster.metadata import name_of, unix
from sglang_operator.cluster.paths import POD
from sglang_operator.cluster.tries import latest_gain
from sglang_operator.lifecycle.observed import Failure

CONTAINER: Final = "ray-worker"
TAIL_LINES: Final = 400
READ_SECONDS: Final = 4.0  # a node that has died answers never, and the whole pass waits
LIMIT_BYTES: Final = 1_048_576  # of one answer; it is cut at its end, which is what matters here
KEPT_LINES: Final = 20  # in status and record
LONGEST_LINE: Final = 400
CRASHED: Final = "EngineCrashed"
ENGINE_DEATHS: Final = 3  # of engines that had started, until the revision counts as one that crashes
DEATHS_SECONDS: Final = 3600.0  # within which they count: three in a month are three mishaps
# A retry may mend these, so they fail a revision only through its progress deadline.
RETRIED: Final = frozenset({"DownloadFailed"})


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
    latest = steps[-1] if steps else {}
    return Said(
        step=str(latest.get("step", "")),
        message=str(latest.get("message", "")),
        at=unix(latest_gain(steps).get("time")),
        failure=_failure(events, _tail(lines)),
        mishap=_mishap(events),
    )


def _mishap(events: list[Mapping[str, Any]]) -> str:
    # Its death may be all that the end of the log still has of an engine that ran for long.
    ends = [event for event in _since_ready(events) if _is_end(event)]
    if not ends:
        return ""
    told = (ends[-1].get(name) for name in ("message", "remedy"))
    return f"{ends[-1].get('reason', 'EngineFailed')}: {'; '.join(str(one) for one in told if one)}"


def _since_ready(events: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """What came after the last time that it was ready; all, if it never was."""
    return events[max((number for number, event in enumerate(events, 1) if event.get("step") == "ready"), default=0) :]


def _is_end(event: Mapping[str, Any]) -> bool:
    return event["event"] == "engine_died" or event.get("step") == "failed"


def _failure(events: list[Mapping[str, Any]], tail: tuple[str, ...]) -> Failure | None:
    """Nothing of what was before it was ready: a later try has mended that."""
    failed = [event for event in _since_ready(events) if event.get("step") == "failed"]
    if failed and failed[-1].get("reason") not in RETRIED:
        last = failed[-1]
        message = f"{last.get('message')}; {last.get('remedy')}"
        return Failure(str(last.get("reason")), message, unix(last.get("time")), tail)
    died = _deaths(events)
    if len(died) >= ENGINE_DEATHS:
        message = f"the engine ended {len(died)} times after it had started: {_mishap(died)}"
        return Failure(CRASHED, message, unix(died[-1].get("time")), tail)
    return None


def _deaths(events: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of engines that had started, in the hour before the last one; none once another engine is ready."""
    if not any(event["event"] == "engine_died" for event in _since_ready(events)):
        return []
    died = [event for event in events if event["event"] == "engine_died"]
    last = unix(died[-1].get("time"))
    return [event for event in died if unix(event.get("time")) > last - DEATHS_SECONDS]


def _events(lines: list[str]) -> Iterator[Mapping[str, Any]]:
    for line in lines:
        if line.startswith('{"time"'):
            try:
                event = json.loads(line)
                unix(event["time"])
            except (ValueError, TypeError, KeyError):  # two processes wrote at once, or it is no line of ours
                continue
            if "event" in event:
                yield event


def _tail(lines: list[str]) -> tuple[str, ...]:
    return tuple(line[:LONGEST_LINE] for line in lines[-KEPT_LINES:])
