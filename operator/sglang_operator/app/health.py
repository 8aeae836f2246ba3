"""Whether this process still works, for the kubelet. Silence is no sign of trouble: a calm cluster has no events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

PASS_SECONDS: Final = 300.0  # requests have limits far below, and so have the questions to one revision together
LAG_SECONDS: Final = 10.0  # a loop that is blocked for so long cannot renew its lease either
BEAT_SECONDS: Final = 1.0


def trouble(longest_pass: float, loop_lag: float) -> str:
    """Why the process should be restarted, "" if it should not. Both in seconds."""
    if longest_pass > PASS_SECONDS:
        return f"a pass has been running for {longest_pass:.0f} s, the limit is {PASS_SECONDS:g} s"
    if loop_lag > LAG_SECONDS:
        return f"the event loop was blocked for {loop_lag:.0f} s, the limit is {LAG_SECONDS:g} s"
    return ""


class LoopLag:
    """How late the event loop wakes up a task that sleeps."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock, self._sleep = clock, sleep
        self.seconds = 0.0
        """As last measured."""

    async def measure(self) -> None:
        """For ever."""
        while True:
            began = self._clock()
            await self._sleep(BEAT_SECONDS)
            self.seconds = max(0.0, self._clock() - began - BEAT_SECONDS)
