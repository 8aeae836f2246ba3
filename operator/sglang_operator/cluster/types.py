"""What the parts of the control loop hand to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Key(NamedTuple):
    """The endpoint that a pass is about."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class Result:
    """How a pass ended: when to look again although nothing may have happened by then, in seconds; None: on events."""

    requeue_after: float | None = None
