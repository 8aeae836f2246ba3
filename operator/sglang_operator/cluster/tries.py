"""Which steps of a start are progress: those that come further than every try before. Pure.

A start that fails for ever at the same place must become overdue (ADR 0012), and a download that broke once and goes on
must not. Both show in a log's own lines; of what its end no longer has, nothing is made up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

Step = Mapping[str, Any]
Place = tuple[int, float]
"""How far a step is: its number among the steps of a start, and the bytes that have arrived."""

READY: Final = "ready"
FAILED: Final = "failed"
_ORDER: Final = ("backoff", "model", "load", "warmup", "adapters", READY)
_NOWHERE: Final[Place] = (-1, 0.0)  # of the end of a try, and of steps that a later image may have
_START: Final[Place] = (-2, 0.0)  # before all of them
_UNKNOWN: Final[Place] = (len(_ORDER), 0.0)  # beyond all of them

# As sglang_serve.progress and sglang_serve.objects word them. "downloading X: 5.0 GiB" is how much there is to come.
# Of what is loaded only the bytes that were read are told.
_BYTES: Final = r"(\d+(?:\.\d+)?) (B|KiB|MiB|GiB|TiB)"
_ARRIVED: Final = (
    re.compile(f"downloading .*: {_BYTES} of "),
    re.compile(f"^another replica .*: {_BYTES}$"),
    re.compile(f"^loading: {_BYTES} read$"),
)
_UNITS: Final = {"B": 1.0, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30, "TiB": 2.0**40}


def latest_gain(steps: Sequence[Step]) -> Step:
    """The latest step that is progress, from the last time on that it was ready; {} if there is none. Of a first try
    all are, its end too; a later one gains nothing until it is beyond the furthest that those before it came to."""
    ready = max((number for number, step in enumerate(steps) if step.get("step") == READY), default=-1)
    gains = [*steps[max(ready, 0) : ready + 1], *_gains(_tries(steps[ready + 1 :]))]
    return gains[-1] if gains else {}


def _gains(tries: Iterable[Sequence[Step]]) -> Iterator[Step]:
    furthest = _START
    for one in tries:
        yield from (step for step in one if _place(step) > furthest)
        furthest = max(furthest, *map(_place, one))
        if furthest == _NOWHERE:  # the log begins with the end of a try: how far that came it has no more
            furthest = _UNKNOWN


def _tries(steps: Iterable[Step]) -> Iterator[Sequence[Step]]:
    """Each with its end, if it has come to that."""
    one: list[Step] = []
    for step in steps:
        one.append(step)
        if step.get("step") == FAILED:
            yield one
            one = []
    if one:
        yield one


def _place(step: Step) -> Place:
    name = step.get("step")
    return (_ORDER.index(name), _arrived(str(step.get("message", "")))) if name in _ORDER else _NOWHERE


def _arrived(message: str) -> float:
    """Bytes that had arrived, rounded as they were written; 0 if it is of something else."""
    found = next((found for pattern in _ARRIVED if (found := pattern.search(message))), None)
    return float(found[1]) * _UNITS[found[2]] if found else 0.0
