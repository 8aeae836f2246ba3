"""WorkQueue: nothing runs twice at a time, nothing is lost, failures come back later and later."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from unit.fake_time import FakeTime, queue_on, take

from sglang_operator.cluster.queue import ShutDownError, WorkQueue

KEYS = st.sampled_from(["a", "b", "c"])
SECONDS = st.floats(0, 50)


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
        assert (self.queue.longest_running > 0) <= bool(self.running)

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
    assert queue.longest_running == 7
    queue.done("a")
    assert queue.longest_running == 2


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
