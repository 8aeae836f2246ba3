"""Proof that a run left nothing: no process that it started, however far removed, and no file in a temporary place."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PLACES = (Path("/tmp"), Path("/dev/shm"))
MARK = "SGLANG_TEST_MARK"  # every process started below inherits it, also when it leaves session and parent


@contextmanager
def no_trace() -> Iterator[None]:
    """What starts in the block must be over at its end, and its files gone."""
    mark, before = uuid.uuid4().hex, files()
    os.environ[MARK] = mark
    try:
        yield
    finally:
        del os.environ[MARK]
    assert marked(mark) == []
    left = sorted(map(str, files() - before))
    assert not left, f"left behind: {left}"


def marked(mark: str) -> list[str]:
    """Command lines of the processes that have the mark."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"{MARK}={mark}".encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text().replace("\0", " "))
    return found


def files() -> set[Path]:
    """Names in the places for temporary files; pytest's own directory is not ours to remove."""
    return {path for place in PLACES for path in place.iterdir() if not path.name.startswith("pytest-")}
