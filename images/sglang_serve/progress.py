"""How far a replica has come on its way to Ready: a file for whoever follows it, a log line for whoever reads."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

Step = Literal["model", "load", "warmup", "ready", "failed"]
FILE = "progress.json"


class Progress:
    """Writes the latest step to `<directory>/progress.json` and each step as one JSON line to `write`."""

    def __init__(self, directory: Path, write: Callable[[str], None], **origin: str) -> None:
        self._file = directory / FILE
        self._write = write
        self._origin = origin

    def report(self, step: Step, message: str, **fields: Any) -> None:
        """Note a step, or news of the current one. A reader of the file sees the old state or the new, never a half."""
        state = {"step": step, "message": message, **fields}
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps(state))
        fresh.replace(self._file)
        self._write(log_line("progress", **self._origin, **state))


def log_line(event: str, **fields: Any) -> str:
    """One line of the replica's log: JSON, as those of requests are."""
    return json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **fields})


def write_line(line: str) -> None:
    """To the process's stdout in one system call, so that lines of several writers do not mix."""
    os.write(1, f"{line}\n".encode())
