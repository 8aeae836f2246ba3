"""Whether a replica's engine lives: asked by Ray Serve (a hung one), and told by the kernel (a dead one)."""

from __future__ import annotations

import asyncio
import ctypes
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NoReturn, Protocol

import psutil

PROBE_SECONDS = 20.0  # SGLang's own limit for its /health. Serve replaces a replica after three failures in a row
WARM_UP_SECONDS = 600.0  # SGLang's own limit too: kernels may be compiled
UPDATE_SECONDS = 600.0  # that an order may take: new weights are read as slowly as a model that starts
LOOK_SECONDS = 0.25


class Unhealthy(Exception):  # noqa: N818 - a state
    """The engine does not answer."""


class Probed(Protocol):
    """What is asked of an engine."""

    @property
    def pids(self) -> Sequence[int]:
        """Of the processes without which it does not work."""

    @property
    def last_heard(self) -> float:
        """When the engine last sent anything, in seconds of `time.time`."""

    @property
    def is_paused(self) -> bool:
        """Whether it is silent because it was told to."""

    @property
    def has_order(self) -> bool:
        """Whether it carries out an order, such as to take new weights: until it has it answers nothing."""

    async def answer(self) -> None:
        """Run one minimal request."""

    async def warm_up(self) -> None:
        """Run a first request."""


async def require_warm_up(engine: Probed, seconds: float = WARM_UP_SECONDS) -> None:
    """Return when the engine has answered its first request. Raises Unhealthy if it does not, or dies over it."""

    def check() -> bool:
        if dead := [pid for pid in engine.pids if has_ended(pid)]:
            raise Unhealthy(f"a process of the engine (pid {dead[0]}) ended during the first request")
        return False

    await _until(check, asyncio.create_task(engine.warm_up()), seconds, "no answer to the first request")


class Watch:
    """Asks one engine whether it lives, and remembers since when it has been carrying out an order."""

    def __init__(self, engine: Probed, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._clock = clock
        self._order_since: float | None = None

    async def require_answer(self, seconds: float = PROBE_SECONDS) -> None:
        """Return when the engine answers a minimal request, or sends anything else: a busy engine is a healthy one.

        Raises Unhealthy after `seconds` of silence, over an order after UPDATE_SECONDS.
        """
        began = self._clock()
        asked = asyncio.create_task(self._engine.answer())
        await _until(lambda: self._lives(began), asked, seconds, "the engine sent nothing")

    def _lives(self, began: float) -> bool:
        return self._engine.last_heard > began or self._may_be_silent()

    def _may_be_silent(self) -> bool:
        if not self._engine.has_order:
            self._order_since = None
            return self._engine.is_paused
        if self._order_since is None:
            self._order_since = self._clock()
        # One order after the other: it is heard in between.
        silent_since = max(self._order_since, self._engine.last_heard)
        return self._engine.is_paused or self._clock() - silent_since < UPDATE_SECONDS


async def _until(check: Callable[[], bool], asked: asyncio.Task[None], seconds: float, failure: str) -> None:
    """Until `check` or `asked` says that all is well; whatever either raises passes."""
    deadline = time.monotonic() + seconds
    try:
        while not check():
            if asked.done():
                return asked.result()
            if time.monotonic() > deadline:
                raise Unhealthy(f"{failure} for {seconds:.0f} s")
            await asyncio.wait({asked}, timeout=LOOK_SECONDS)
    finally:
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
    return None


def on_exit(pids: Sequence[int], call: Callable[[int], None]) -> None:
    """Call `call(pid)`, from a thread, as soon as one of these processes has ended; also if it has ended already."""

    def watch() -> None:
        call(_wait_for_first(pids))

    threading.Thread(target=watch, name="engine-exit", daemon=True).start()


def _wait_for_first(pids: Sequence[int]) -> int:
    poller = select.poll()
    handles: dict[int, int] = {}
    try:
        for pid in pids:
            handles[os.pidfd_open(pid)] = pid
        for handle in handles:
            poller.register(handle, select.POLLIN)
        ((first, _), *_) = poller.poll()
        return handles[first]
    except ProcessLookupError:
        return next(pid for pid in pids if has_ended(pid))
    finally:
        for handle in handles:
            os.close(handle)


def has_ended(pid: int) -> bool:
    """Whether a child process has exited, waited for or not."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], 0)[0])
    finally:
        os.close(handle)


def kill_children() -> None:
    """End whatever this process has started. Returns when it is gone, and its memory with it."""
    children = psutil.Process().children(recursive=True)
    for child in children:
        with suppress(psutil.NoSuchProcess):  # the end of one takes others along
            child.kill()
    psutil.wait_procs(children, timeout=10)


def end_process_after(work: Callable[..., None], *args: Any, **kwargs: Any) -> NoReturn:
    """Do the work of a process and end it, whatever threads it has left behind: one that failed may have some that
    never end (of a collective, of a cache), and as long as it exists nobody learns that it does nothing."""
    code = 1
    try:
        work(*args, **kwargs)
        code = 0
    except Exception:  # noqa: BLE001 - the process ends here, as with any
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        os._exit(code)


def survive_quit_signals() -> None:
    """Keep SIGQUIT from ending this process, and from nothing else.

    SGLang's processes send it to their parent when they fail, and SGLang's handler needs the main thread, which is
    Ray's in a replica: the process would end with a core dump and without a reason. `on_exit` stands in for it. Done in
    C: Python changes the handling of signals in the main thread only. A handler that does nothing, because what is
    ignored is ignored by every child, too: SGLang's data parallel controller has to die of it when a rank fails.
    """
    libc = ctypes.CDLL(None)
    libc.signal.argtypes, libc.signal.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
    libc.signal(signal.SIGQUIT, ctypes.cast(libc.abs, ctypes.c_void_p).value)
