"""How far a replica has come on its way to Ready: a file for whoever follows it, a log line for whoever reads."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import psutil

Step = Literal["backoff", "model", "load", "warmup", "adapters", "ready", "failed"]
Say = Callable[[str], None]
FILE = "progress.json"
DOWNLOAD_SECONDS = 2.0
LOAD_SECONDS = 15.0
READ_BYTES = 64 * 2**20  # less in that time is not the reading of weights, but of a start that hangs


class Bytes(int):
    """A number of bytes that prints for people."""

    def __str__(self) -> str:
        value, unit = float(self), "B"
        for larger in ("KiB", "MiB", "GiB", "TiB"):
            if value < 1024:  # noqa: PLR2004
                break
            value, unit = value / 1024, larger
        return f"{value:.1f} {unit}" if unit != "B" else f"{int(self)} B"


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


def following(what: str, total: Bytes, arrived: Callable[[], int], say: Say) -> AbstractContextManager[None]:
    """Say how much of a download has arrived, whenever it has grown; a volume that cannot be read is asked again."""
    seen = -1

    def look() -> None:
        nonlocal seen
        with suppress(OSError):
            if (now := arrived()) != seen:
                seen = now
                say(f"downloading {what}: {Bytes(now)} of {total}")

    say(f"downloading {what}: {total}")
    return _meanwhile(look, DOWNLOAD_SECONDS)


def loading(say: Say, read: Callable[[], int], seconds: float = LOAD_SECONDS) -> AbstractContextManager[None]:
    """Say how much the engine has read on its way, while it reads: a large model on a slow volume loads for longer than
    a start without progress is given, and SGLang tells of it in lines that are not ours."""
    before = 0

    def look() -> None:
        nonlocal before
        now = read()
        if now - before >= READ_BYTES:
            say(f"loading: {Bytes(now)} read")
        before = now

    return _meanwhile(look, seconds)


def bytes_read() -> int:
    """By the processes that this one has started, from files or into mapped memory (proc(5), `io`)."""
    return sum(map(_read_by, psutil.Process().children(recursive=True)))


def _read_by(process: psutil.Process) -> int:
    try:
        counted = process.io_counters()
    except psutil.Error:  # it has ended
        return 0
    return int(max(counted.read_bytes, counted.read_chars))


@contextmanager
def _meanwhile(look: Callable[[], None], seconds: float) -> Iterator[None]:
    """Look each so many seconds, from a thread, while the body runs."""
    over = threading.Event()

    def follow() -> None:
        while not over.wait(seconds):
            look()

    thread = threading.Thread(target=follow, name="progress", daemon=True)
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
