"""WorkQueue: nothing runs twice at a time, nothing is lost, failures come back later and later."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Sized

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sglang_operator.cluster.queue import (
    LONGEST_LOOK_SECONDS,
    LONGEST_REST_SECONDS,
    LOOKS_PER_SECOND,
    REST_SECONDS,
    ShutDownError,
    WorkQueue,
)

KEYS = st.sampled_from(["a", "b", "c"])
SECONDS = st.floats(0, 50)


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


class QueueMachine(RuleBasedStateMachine):
    """Arbitrary interleavings against a model: what was wished for, and what runs."""

    def __init__(self) -> None:
        super().__init__()
        self.time = FakeTime()
        self.queue = queue_on(self.time)
        self.wanted: set[str] = set()
        self.running: set[str] = set()
        self.later: dict[str, float] = {}
        self.backoffs: dict[str, float] = {}

    @rule(key=KEYS)
    def add(self, key: str) -> None:
        self.queue.add(key)
        self.wanted.add(key)

    @rule(key=KEYS, seconds=SECONDS)
    def add_after(self, key: str, seconds: float) -> None:
        self.queue.add_after(key, seconds)
        self._expect(key, seconds)

    @rule(key=KEYS)
    def retry(self, key: str) -> None:
        seconds = self.queue.retry(key)
        assert seconds == min(120.0, max(1.0, 2 * self.backoffs.get(key, 0.5)))
        self.backoffs[key] = seconds
        self._expect(key, seconds)

    @rule(key=KEYS)
    def forget(self, key: str) -> None:
        self.queue.forget(key)
        self.backoffs.pop(key, None)

    @rule()
    def take_one(self) -> None:
        key = take(self.queue)
        if key is None:
            assert self.wanted <= self.running, "a key that nobody runs was lost"
            return
        assert key in self.wanted, "nobody asked for it"
        assert key not in self.running, "two workers at once"
        self.wanted.discard(key)
        self.running.add(key)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.running)))
        self.queue.done(key)
        self.running.discard(key)

    @rule(seconds=SECONDS)
    def advance(self, seconds: float) -> None:
        self.time.advance(seconds)
        self._mature()

    @invariant()
    def counts(self) -> None:
        assert self.queue.depth == len(self.wanted - self.running)
        assert self.time.armed == bool(self.later), "one timer, and only while something waits for it"
        assert (self.queue.longest_running(self.time.now) > 0) <= bool(self.running)

    def teardown(self) -> None:
        for key in sorted(self.running):
            self.queue.done(key)
        self.running.clear()
        self.time.advance(1000)
        self._mature()
        while left := take(self.queue):
            self.queue.done(left)
            self.wanted.discard(left)
        assert not self.wanted, "lost"

    def _expect(self, key: str, seconds: float) -> None:
        if seconds <= 0:
            self.wanted.add(key)
        else:
            self.later[key] = min(self.time.now + seconds, self.later.get(key, float("inf")))

    def _mature(self) -> None:
        due = {key for key, at in self.later.items() if at <= self.time.now}
        self.wanted |= due
        self.later = {key: at for key, at in self.later.items() if key not in due}


TestQueueMachine = QueueMachine.TestCase


@pytest.mark.parametrize("draw", [0.0, 0.5, 0.999])
def test_back_off_grows_to_the_cap_and_starts_small_again(draw: float) -> None:
    queue = queue_on(FakeTime(), draw)
    delays = [queue.retry("a") for _ in range(2000)]
    assert delays == sorted(delays)
    assert 0.75 <= delays[0] <= 1
    assert 90 <= delays[-1] <= 120
    queue.forget("a")
    assert queue.retry("a") == delays[0]


def test_the_first_delay_of_a_retry_can_be_shorter() -> None:
    queue = queue_on(FakeTime())
    assert [queue.retry("a", base_seconds=0.1) for _ in range(3)] == [0.1, 0.2, 0.4]


def test_longest_running_is_the_oldest_in_flight() -> None:
    time = FakeTime()
    queue = queue_on(time)
    queue.add("a")
    queue.add("b")
    take(queue)
    time.advance(5)
    take(queue)
    time.advance(2)
    assert queue.longest_running(time.now) == 7
    queue.done("a")
    assert queue.longest_running(time.now) == 2


def passed(queue: WorkQueue[str], key: str) -> None:
    assert take(queue) == key
    queue.done(key)


def test_what_is_noted_first_runs_at_once() -> None:
    queue = queue_on(FakeTime())
    queue.note("a")
    passed(queue, "a")


def test_what_is_noted_again_and_again_runs_once_in_a_while() -> None:
    time = FakeTime()
    queue = queue_on(time)
    queue.note("a")
    passed(queue, "a")
    for _ in range(7):
        queue.note("a")
        time.advance(REST_SECONDS / 8)
        assert take(queue) is None
    time.advance(REST_SECONDS / 8)
    passed(queue, "a")


def test_what_is_noted_in_a_pass_runs_after_a_rest() -> None:
    time = FakeTime()
    queue = queue_on(time)
    queue.add("a")
    assert take(queue) == "a"
    queue.note("a")
    queue.done("a")
    assert take(queue) is None
    time.advance(REST_SECONDS)
    passed(queue, "a")


def test_what_is_added_does_not_rest() -> None:
    queue = queue_on(FakeTime())
    for _ in range(2):
        queue.add("a")
        passed(queue, "a")


def passes(queue: WorkQueue[str], time: FakeTime, keys: int, seconds: int) -> int:
    """How many there are in `seconds`, if each looks again after five, and is noted all the time."""
    for number in range(keys):
        queue.note(f"endpoint {number}")
    count = 0
    for _ in range(4 * seconds):
        while (key := take(queue)) is not None:
            count += 1
            queue.look_again(key, 5)
            queue.note(key)
            queue.done(key)
        time.advance(0.25)
    return count


def test_the_first_look_of_each_waits_for_no_crowd() -> None:
    time = FakeTime()
    assert passes(queue_on(time), time, 1000, 1) >= 1000


def crowd(queue: WorkQueue[str], keys: int, seconds: float = 5) -> None:
    for number in range(keys):
        queue.look_again(f"endpoint {number}", seconds)


def ready(queue: WorkQueue[str]) -> set[str]:
    """All that is to be looked at now."""
    found = set()
    while (key := take(queue)) is not None:
        found.add(key)
        queue.done(key)
    return found


def seconds_until(queue: WorkQueue[str], time: FakeTime, key: str) -> int:
    """Whole seconds until it is to be looked at; so is what comes before it."""
    for seconds in range(200):
        if key in ready(queue):
            return seconds
        time.advance(1)
    raise AssertionError(f"{key} was lost")


def test_a_crowd_makes_a_look_later() -> None:
    time = FakeTime()
    queue = queue_on(time)
    crowd(queue, 1000)
    queue.look_again("late", 5)
    assert seconds_until(queue, time, "late") == 1000 / LOOKS_PER_SECOND + 1


def test_a_crowd_that_hears_much_rests_longer_but_not_for_long() -> None:
    time = FakeTime()
    queue = queue_on(time)
    assert passes(queue, time, 1000, 100) <= 1.1 * 1000 * 100 / LONGEST_REST_SECONDS


def test_a_look_is_never_put_off_for_longer_than_a_minute_and_a_limit_not_at_all() -> None:
    time = FakeTime()
    queue = queue_on(time)
    crowd(queue, 2000)
    queue.look_again("late", 5)
    queue.add_after("limit", 10)
    assert seconds_until(queue, time, "limit") == 10
    assert 10 + seconds_until(queue, time, "late") == LONGEST_LOOK_SECONDS


def test_a_few_look_as_often_as_they_wish() -> None:
    time = FakeTime()
    queue = queue_on(time)
    queue.look_again("a", 5)
    time.advance(5)
    passed(queue, "a")


def test_those_that_wait_in_peace_are_no_crowd() -> None:
    time = FakeTime()
    queue = queue_on(time)
    crowd(queue, 1000, seconds=60)
    queue.look_again("busy", 2)
    time.advance(2)
    passed(queue, "busy")


def test_a_queue_that_has_rested_remembers_no_key() -> None:
    time = FakeTime()
    queue = queue_on(time)
    empty = size_of(queue)
    for number in range(1000):
        queue.add(f"endpoint {number}")
        passed(queue, f"endpoint {number}")
        time.advance(REST_SECONDS)
    assert size_of(queue) <= empty + 1


def size_of(queue: WorkQueue[str]) -> int:
    """Keys that it holds, in whatever place."""
    return sum(len(held) for held in vars(queue).values() if isinstance(held, Sized))


def test_done_without_get_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        queue_on(FakeTime()).done("a")


def test_waiting_workers_get_each_key_once_and_end_at_shut_down() -> None:
    async def scenario() -> list[str]:
        queue: WorkQueue[str] = WorkQueue()
        seen: list[str] = []
        all_seen = asyncio.Event()

        async def work() -> None:
            while True:
                key = await queue.get()
                seen.append(key)
                queue.done(key)
                if len(seen) == 20:
                    all_seen.set()

        workers = [asyncio.create_task(work()) for _ in range(3)]
        for number in range(10):
            queue.add(str(number))
            queue.add(str(number))
            queue.add_after(f"later {number}", 0.001)
        async with asyncio.timeout(10):
            await all_seen.wait()
        queue.shut_down()
        ended = await asyncio.gather(*workers, return_exceptions=True)
        assert all(isinstance(end, ShutDownError) for end in ended)
        return seen

    seen = asyncio.run(scenario())
    assert sorted(seen) == sorted([*map(str, range(10)), *(f"later {number}" for number in range(10))])


def test_after_shut_down_nothing_is_handed_out() -> None:
    time = FakeTime()
    queue = queue_on(time)
    queue.add("a")
    queue.add_after("b", 1)
    queue.shut_down()
    queue.add("c")
    time.advance(2)
    with pytest.raises(ShutDownError):
        take(queue)
    assert time.armed == 0
