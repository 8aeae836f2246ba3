"""What the parts of the control loop hand to each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


class Key(NamedTuple):
    """The endpoint that a pass is about."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


Report = Callable[[Key, Mapping[str, Any] | None], None]
"""Takes the status of an endpoint after each pass, None when it is gone."""


@dataclass(frozen=True)
class Result:
    """How a pass ended: after how many seconds there is to be another although nothing may have happened; None: on
    events."""

    requeue_after: float | None = None
    """A step that is ready, or a limit that is reached then."""
    look_after: float | None = None
    """Something may have changed of which no event tells; among many endpoints later."""
