"""Leaving no process behind, whatever the others do.

Ray's children die with it, but what a crashed actor had started (HAProxy, an engine's scheduler) would become init's.
As a "subreaper" this process becomes their parent instead, and so knows whom to end.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
KILL_SECONDS = 10


@contextmanager
def no_process_left() -> Iterator[None]:
    """Adopt every orphan below this process; at the end kill whatever is still there."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # an impatient third Ctrl-C must not leave half of them
        kill_descendants()


def kill_descendants() -> None:
    """SIGKILL everything below this process until nothing is there: a parent may fork once more before it is hit."""
    deadline = time.monotonic() + KILL_SECONDS
    while (left := psutil.Process().children(recursive=True)) and time.monotonic() < deadline:
        for process in left:
            with _gone_is_fine():
                process.kill()
        psutil.wait_procs(left, timeout=1)
        reap_adopted(set())


def reap_adopted(own: set[int]) -> None:
    """Collect adopted children that ended, lest they stay zombies; whoever started the `own` pids waits for those."""
    for process in psutil.Process().children():
        with _gone_is_fine():
            if process.pid not in own and process.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(process.pid, os.WNOHANG)


def children() -> set[int]:
    """Pids of the direct children."""
    return {process.pid for process in psutil.Process().children()}


def listener(port: int) -> str:
    """Who listens on `port`, as "name (pid 12)"; "another process" if this user may not see it."""
    for one in psutil.net_connections(kind="tcp"):
        if one.status == psutil.CONN_LISTEN and one.laddr[1:] == (port,) and one.pid:
            with _gone_is_fine():
                return f"{psutil.Process(one.pid).name()} (pid {one.pid})"
    return "another process"


def _gone_is_fine() -> suppress:
    return suppress(psutil.NoSuchProcess, ChildProcessError)
