"""The work queue between watches and workers, as client-go's: a key waits at most once and never runs twice at a time.

Events carry no news here, only the wish for a pass, so that a thousand events for one endpoint cost one pass.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import Final, Generic, Protocol, TypeVar

K = TypeVar("K", bound=Hashable)

BASE_SECONDS: Final = 1.0
CAP_SECONDS: Final = 120.0
REST_SECONDS: Final = 1.0  # KubeRay writes an object's status some twenty times while it makes its pods
LOOKS_PER_SECOND: Final = 20.0  # of some ten requests each: a thousand rollouts would keep an API server busy alone
LONGEST_LOOK_SECONDS: Final = 60.0  # a thousand endpoints come to less than that rate
LONGEST_REST_SECONDS: Final = 5.0  # an edit, or a pod's end, is seen after it
JITTER: Final = 0.25  # of a back-off, subtracted: endpoints that fail together do not come back together
DOUBLINGS: Final = 30  # beyond it every delay is the cap, and the power would overflow in the end


class ShutDownError(Exception):
    """The queue hands out no more keys."""


class Timer(Protocol):
    """What `call_later` returns."""

    def cancel(self) -> None:
        """Never call back."""


CallLater = Callable[[float, Callable[[], None]], Timer]


def _loop_call_later(seconds: float, callback: Callable[[], None]) -> Timer:
    return asyncio.get_running_loop().call_later(seconds, callback)


class WorkQueue(Generic[K]):
    """For one event loop. `clock` is monotonic seconds, `draw` a number in [0, 1), `call_later` the loop's.

    A key that is noted waits until REST_SECONDS after its last pass; one that is added does not. Where more looks are
    wished for than LOOKS_PER_SECOND, all of them and the rests are longer, by the same factor and up to a limit.
    """

    def __init__(
        self,
        *,
        base_seconds: float = BASE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
        call_later: CallLater = _loop_call_later,
    ) -> None:
        self._base = base_seconds
        self._clock, self._draw, self._call_later = clock, draw, call_later
        self._ready: deque[K] = deque()
        self._dirty: set[K] = set()  # wanted: in _ready, or in flight and to be run again
        self._in_flight: dict[K, float] = {}  # since when
        self._noted: set[K] = set()  # while in flight
        self._rested: dict[K, float] = {}  # when its rest is over, the earliest first but for crowds
        self._deadlines: dict[K, float] = {}
        self._looks: dict[K, float] = {}  # those that wait: the seconds that were wished for
        self._failures: dict[K, int] = {}
        self._timer: Timer | None = None
        self._timer_at = 0.0
        self._changed = asyncio.Event()
        self._is_shut_down = False

    @property
    def depth(self) -> int:
        """Keys that wait for a worker now."""
        return len(self._ready)

    @property
    def longest_running(self) -> float:
        """Seconds since the oldest key in flight was handed out; 0 if none is."""
        now = self._clock()
        return now - min(self._in_flight.values(), default=now)

    def add(self, key: K) -> None:
        """Run it as soon as a worker is free; once more if it is in flight, because it may have read too early."""
        if self._is_shut_down or key in self._dirty:
            return
        self._dirty.add(key)
        if key not in self._in_flight:
            self._enqueue(key)

    def note(self, key: K) -> None:
        """Something has changed: add it, at once if it has rested. Of many changes in a row one pass sees all."""
        if key in self._in_flight:
            self._noted.add(key)
        else:
            self.add_after(key, self._rested.get(key, 0.0) - self._clock())

    def add_after(self, key: K, seconds: float) -> None:
        """Add it later. Of several wishes for one key the earliest counts: the pass will renew the others."""
        if self._is_shut_down:
            return
        if seconds <= 0:
            self.add(key)
            return
        at = self._clock() + seconds
        self._deadlines[key] = min(at, self._deadlines.get(key, at))
        self._arm(self._deadlines[key])

    def look_again(self, key: K, seconds: float) -> None:
        """Add it in so many seconds, or later among many: no event may tell of a change, and nothing depends on it."""
        self._looks[key] = seconds
        self.add_after(key, self._among_many(seconds, LONGEST_LOOK_SECONDS))

    def retry(self, key: K, base_seconds: float | None = None) -> float:
        """Add it after its back-off, which doubles with each retry until `forget`. Returns the seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        base = self._base if base_seconds is None else base_seconds
        full = min(CAP_SECONDS, base * 2.0 ** min(failures, DOUBLINGS))
        seconds = full * (1 - JITTER * self._draw())
        self.add_after(key, seconds)
        return seconds

    def forget(self, key: K) -> None:
        """It succeeded: the next back-off starts small again."""
        self._failures.pop(key, None)

    async def get(self) -> K:
        """The next key, now in flight until `done`. Raises ShutDownError once the queue is shut down."""
        while not (self._is_shut_down or self._ready):
            self._changed.clear()
            await self._changed.wait()
        if self._is_shut_down:
            raise ShutDownError
        key = self._ready.popleft()
        self._dirty.discard(key)
        self._looks.pop(key, None)
        self._in_flight[key] = self._clock()
        return key

    def done(self, key: K) -> None:
        """The pass of `key` is over; if it was added meanwhile, it waits again. Raises KeyError if not in flight."""
        del self._in_flight[key]
        rest = self._among_many(REST_SECONDS, LONGEST_REST_SECONDS)
        self._rest_from_now(key, rest)
        if key in self._noted:
            self._noted.discard(key)
            self.add_after(key, rest)
        if key in self._dirty and not self._is_shut_down:
            self._enqueue(key)

    def shut_down(self) -> None:
        """Hand out nothing more, also what waits already: the next operator finds it again."""
        self._is_shut_down = True
        if self._timer:
            self._timer.cancel()
        self._changed.set()

    def _among_many(self, seconds: float, longest: float) -> float:
        """So much longer that all looks come to what they may, but not beyond `longest`, unless that was the wish."""
        crowd = sum(1 / wished for wished in self._looks.values()) / LOOKS_PER_SECOND
        return max(seconds, min(seconds * crowd, longest))

    def _rest_from_now(self, key: K, seconds: float) -> None:
        """Forget those whose rest is over: keys come and go for as long as the process lives."""
        now = self._clock()
        self._rested.pop(key, None)
        self._rested[key] = now + seconds
        while self._rested and self._rested[first := next(iter(self._rested))] <= now:
            del self._rested[first]

    def _enqueue(self, key: K) -> None:
        self._ready.append(key)
        self._changed.set()

    def _arm(self, at: float) -> None:
        """One timer, for the earliest deadline."""
        if self._timer and self._timer_at <= at:
            return
        if self._timer:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._call_later(max(0.0, at - self._clock()), self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = self._clock()
        for key in [key for key, at in self._deadlines.items() if at <= now]:
            del self._deadlines[key]
            self.add(key)
        if self._deadlines:
            self._arm(min(self._deadlines.values()))
