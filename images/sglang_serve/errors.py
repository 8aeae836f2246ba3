"""Why a replica could not start: one reason out of a closed list, and what to do about it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Reason = Literal[
    "ModelNotFound",
    "AccessDenied",
    "DownloadFailed",
    "OutOfMemory",
    "UnsupportedArchitecture",
    "BadArgument",
    "EngineFailed",
]


class StartError(Exception):
    """A replica cannot start: `reason`, what happened in one line, and the remedy."""

    def __init__(self, reason: Reason, message: str, remedy: str) -> None:
        super().__init__(reason, message, remedy)  # all of it, so that it survives pickling
        self.reason = reason
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.reason}: {self.message} Remedy: {self.remedy}"


@dataclass(frozen=True)
class _Sign:
    """What in an engine's error text tells the reason."""

    reason: Reason
    pattern: re.Pattern[str]
    remedy: str


def _sign(reason: Reason, remedy: str, *patterns: str) -> _Sign:
    return _Sign(reason, re.compile("|".join(patterns), re.IGNORECASE), remedy)


_SIGNS = (_sign("EngineFailed", "read the log of the replica", r"(?!)"),)


def classify(text: str) -> StartError:
    """The error that an engine's traceback, or the message of its exception, amounts to."""
    for sign in _SIGNS:
        if sign.pattern.search(text):
            return StartError(sign.reason, _last_line(text), sign.remedy)
    return StartError("EngineFailed", _last_line(text), "read the log of the replica")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "the engine ended without a message."
