"""How far a replica has come on its way to Ready: a file for whoever follows it, a log line for whoever reads."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from sglang_serve.weights import Bytes

Step = Literal["backoff", "model", "load", "warmup", "adapters", "ready", "failed"]
Say = Callable[[str], None]
FILE = "progress.json"
DOWNLOAD_SECONDS = 2.0


class Progress:
    """Writes the latest step to `<directory>/progress.json` and each step as one JSON line to `write`."""

    def __init__(self, directory: Path, write: Callable[[str], None], **origin: str) -> None:
        self._file = directory / FILE
        self._write = write
        self._origin = origin
        self._lock = threading.Lock()  # adapters are downloaded side by side

    def report(self, step: Step, message: str, **fields: Any) -> None:
        """Note a step, or news of the current one. A reader of the file sees the old state or the new, never a half.

        On a full disk the file stays as it was; the line comes all the same.
        """
        state = {"step": step, "message": message, **fields}
        fresh = self._file.with_suffix(".new")
        with self._lock, suppress(OSError):
            fresh.write_text(json.dumps(state))
            fresh.replace(self._file)
        self._write(log_line("progress", **self._origin, **state))


@contextmanager
def following(what: str, total: Bytes, arrived: Callable[[], int], say: Say) -> Iterator[None]:
    """Say how much of a download has arrived, whenever it has grown; a volume that cannot be read is asked again."""
    over = threading.Event()

    def follow() -> None:
        seen = -1
        while not over.wait(DOWNLOAD_SECONDS):
            with suppress(OSError):
                if (now := arrived()) != seen:
                    seen = now
                    say(f"downloading {what}: {Bytes(now)} of {total}")

    say(f"downloading {what}: {total}")
    thread = threading.Thread(target=follow, name="download-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def log_line(event: str, **fields: Any) -> str:
    """One line of the replica's log: JSON, as those of requests are."""
    return json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **fields})


def write_line(line: str) -> None:
    """To the process's stdout in one system call, so that lines of several writers do not mix."""
    os.write(1, f"{line}\n".encode())
