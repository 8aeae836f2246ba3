"""What is noted again and again rests between its passes, and in a crowd each looks less often."""

from __future__ import annotations

from collections.abc import Sized

from unit.fake_time import FakeTime, queue_on, take

from sglang_operator.cluster.queue import (
    LONGEST_LOOK_SECONDS,
    LONGEST_REST_SECONDS,
    LOOKS_PER_SECOND,
    REST_SECONDS,
    WorkQueue,
)


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
