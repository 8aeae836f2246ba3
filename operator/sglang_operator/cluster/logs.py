"""What a replica's log says of its start: the step it is at, or why it cannot serve. Parsing is pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sglang_operator.cluster.api import Api, ApiError
from sglang_operator.cluster.metadata import name_of, unix
from sglang_operator.cluster.paths import POD
from sglang_operator.lifecycle.observed import Failure

CONTAINER: Final = "ray-worker"
TAIL_LINES: Final = 400
KEPT_LINES: Final = 20  # in status and record
LONGEST_LINE: Final = 400
ENGINE_DEATHS: Final = 3  # of engines that had started, until the revision counts as one that crashes
# A retry may mend these, so they fail a revision only through its progress deadline.
RETRIED: Final = frozenset({"DownloadFailed"})


@dataclass(frozen=True)
class Said:
    """What a log tells."""

    step: str = ""
    message: str = ""
    at: float = 0.0
    """Unix seconds of the latest step; 0 if it tells of none."""
    failure: Failure | None = None


async def read_log(api: Api, pod: Mapping[str, Any]) -> str:
    """The end of the log of a worker's container; "" while it has none."""
    namespace, name = pod["metadata"]["namespace"], name_of(pod)
    try:
        return await api.text(POD.of(namespace, name, "log"), container=CONTAINER, tailLines=str(TAIL_LINES))
    except ApiError:  # the container waits, is gone, or its node does not answer: the pod's status tells the rest
        return ""


def parse_log(text: str) -> Said:
    """The latest step, and the failure that it ended in, if no retry mends that."""
    lines = text.splitlines()
    events = list(_events(lines))
    steps = [event for event in events if event["event"] == "progress"]
    latest = steps[-1] if steps else {}
    return Said(
        step=str(latest.get("step", "")),
        message=str(latest.get("message", "")),
        at=unix(latest.get("time")),
        failure=_failure(events, _tail(lines)),
    )


def _failure(events: list[Mapping[str, Any]], tail: tuple[str, ...]) -> Failure | None:
    failed = [event for event in events if event.get("step") == "failed"]
    if failed and failed[-1].get("reason") not in RETRIED:
        last = failed[-1]
        message = f"{last.get('message')}; {last.get('remedy')}"
        return Failure(str(last.get("reason")), message, unix(last.get("time")), tail)
    died = [event for event in events if event["event"] == "engine_died"]
    if len(died) >= ENGINE_DEATHS:
        message = f"the engine ended {len(died)} times after it had started: {died[-1].get('message')}"
        return Failure("EngineCrashed", message, unix(died[-1].get("time")), tail)
    return None


def _events(lines: list[str]) -> Iterator[Mapping[str, Any]]:
    for line in lines:
        if line.startswith('{"time"'):
            try:
                event = json.loads(line)
            except ValueError:  # two processes wrote at once
                continue
            if isinstance(event, dict) and "event" in event:
                yield event


def _tail(lines: list[str]) -> tuple[str, ...]:
    return tuple(line[:LONGEST_LINE] for line in lines[-KEPT_LINES:])
