"""A clock that moves when told, the timers on it, and a work queue that goes by it."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

from sglang_operator.cluster.queue import WorkQueue


class FakeTimer:
    def __init__(self) -> None:
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class FakeTime:
    """A clock that moves when told, and the timers on it."""

    def __init__(self) -> None:
        self.now = 100.0
        self._order = itertools.count()
        self._timers: list[tuple[float, int, FakeTimer, Callable[[], None]]] = []

    def clock(self) -> float:
        return self.now

    def call_later(self, seconds: float, callback: Callable[[], None]) -> FakeTimer:
        timer = FakeTimer()
        heapq.heappush(self._timers, (self.now + seconds, next(self._order), timer, callback))
        return timer

    @property
    def armed(self) -> int:
        return sum(not timer.is_cancelled for _, _, timer, _ in self._timers)

    def advance(self, seconds: float) -> None:
        until = self.now + seconds
        while self._timers and self._timers[0][0] <= until:
            at, _, timer, callback = heapq.heappop(self._timers)
            self.now = max(self.now, at)
            if not timer.is_cancelled:
                callback()
        self.now = until


def queue_on(time: FakeTime, draw: float = 0.0, base_seconds: float = 1.0) -> WorkQueue[str]:
    return WorkQueue(clock=time.clock, call_later=time.call_later, draw=lambda: draw, base_seconds=base_seconds)


def take(queue: WorkQueue[str]) -> str | None:
    """What `get` gives without waiting, None if it would wait."""
    if not queue.depth:
        return None
    try:
        queue.get().send(None)
    except StopIteration as stop:
        return str(stop.value)
    raise AssertionError("it waits although keys are ready")
