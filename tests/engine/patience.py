"""Reads a program's lines with a limit for each, and lets a program that is stuck say where."""

from __future__ import annotations

import select
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from typing import IO

import psutil

END_SECONDS = 10
STACKS = 20_000  # characters: of three processes with some threads each


class Stuck(Exception):  # noqa: N818 - a state
    """A program wrote no line in time; the stacks of its threads, and of its children's, are on its stderr."""


def lines(program: subprocess.Popen[bytes], seconds: float) -> Iterator[bytes]:
    """The lines of its stdout until it ends. The pipe must be unbuffered: select does not see what Python holds."""
    out = program.stdout
    assert out is not None
    while select.select([out], [], [], seconds)[0]:
        if not (line := out.readline()):
            return
        yield line
    abort(program)
    raise Stuck(f"no line within {seconds:.0f} s")


def abort(program: subprocess.Popen[bytes]) -> None:
    """End it with all it has started. With PYTHONFAULTHANDLER set, each prints first what its threads are at."""
    family = [psutil.Process(program.pid), *psutil.Process(program.pid).children(recursive=True)]
    for end in (signal.SIGABRT, signal.SIGKILL):
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(end)
        _, family = psutil.wait_procs(family, timeout=END_SECONDS)


def tail(file: IO[bytes], size: int = STACKS) -> str:
    """The end of what was written to it."""
    file.seek(max(0, file.seek(0, 2) - size))
    return file.read().decode(errors="replace")
