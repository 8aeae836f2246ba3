"""Workers: what becomes of a pass, and how they end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

import pytest

from sglang_operator.cluster.api import ApiError
from sglang_operator.cluster.lease import NotLeaderError
from sglang_operator.cluster.queue import WorkQueue
from sglang_operator.cluster.types import Key, Result
from sglang_operator.cluster.workers import Workers, current_pass, resync

KEY = Key("ns", "qwen3")


class RecordingQueue(WorkQueue[Key]):
    """Remembers what workers asked of it; nothing comes back by itself."""

    def __init__(self) -> None:
        super().__init__(draw=lambda: 0.0)
        self.later: list[tuple[Key, float]] = []

    def add_after(self, key: Key, seconds: float) -> None:
        self.later.append((key, seconds))


def run_passes(reconcile: Callable[[Key], Awaitable[Result]], passes: int = 1) -> tuple[RecordingQueue, list[str]]:
    """Let one worker run KEY `passes` times."""

    async def scenario() -> tuple[RecordingQueue, list[str]]:
        queue, results = RecordingQueue(), []
        ended = asyncio.Event()

        def observe(result: str, seconds: float) -> None:
            assert seconds >= 0
            results.append(result)
            ended.set()

        workers = Workers(queue, reconcile, count=1, observe=observe)
        workers.start()
        async with asyncio.timeout(10):
            for _ in range(passes):
                ended.clear()
                queue.add(KEY)
                await ended.wait()
            await workers.stop(grace_seconds=5)
        return queue, results

    return asyncio.run(scenario())


def raises(*errors: Exception | None) -> Callable[[Key], Awaitable[Result]]:
    left = list(errors)

    async def reconcile(_key: Key) -> Result:
        error = left.pop(0)
        if error:
            raise error
        return Result()

    return reconcile


def test_a_pass_that_wants_to_look_again_is_queued_for_then() -> None:
    async def reconcile(key: Key) -> Result:
        assert key == KEY
        return Result(requeue_after=30)

    queue, results = run_passes(reconcile)
    assert (queue.later, results) == ([(KEY, 30)], ["requeue_after"])


def test_a_pass_has_its_limit_and_its_look_queued() -> None:
    async def reconcile(_key: Key) -> Result:
        return Result(requeue_after=600, look_after=5)

    queue, results = run_passes(reconcile)
    assert (queue.later, results) == ([(KEY, 600), (KEY, 5)], ["requeue_after"])


def test_a_pass_that_is_content_waits_for_events() -> None:
    queue, results = run_passes(raises(None))
    assert (queue.later, results) == ([], ["success"])


def test_failures_back_off_and_a_success_forgets_them(caplog: pytest.LogCaptureFixture) -> None:
    boom = ValueError("no such thing")
    queue, results = run_passes(raises(boom, boom, None, boom), passes=4)
    assert [seconds for _, seconds in queue.later] == [1, 2, 1]
    assert results == ["error", "error", "success", "error"]
    assert "ns/qwen3: the pass failed; again in 2.0 s" in caplog.text
    assert "ValueError: no such thing" in caplog.text


def test_a_missing_right_is_logged_with_its_remedy(caplog: pytest.LogCaptureFixture) -> None:
    said = 'sglangendpoints is forbidden: User "o" cannot get resource "sglangendpoints" in API group "serve.sglang.io"'
    run_passes(raises(ApiError(403, "Forbidden", said)))
    assert 'cannot get resource "sglangendpoints"' in caplog.text
    assert "helm upgrade" in caplog.text


def test_a_conflict_is_tried_again_soon_but_not_in_a_hot_loop(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    queue, results = run_passes(raises(*[ApiError(409, "Conflict", "changed")] * 3), passes=3)
    assert [seconds for _, seconds in queue.later] == [0.1, 0.2, 0.4]
    assert results == ["conflict"] * 3
    assert "ns/qwen3: 409 Conflict: changed; again in 0.1 s" in caplog.text


def test_a_refusal_of_the_server_is_one_line_without_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    queue, results = run_passes(raises(ApiError(403, "Forbidden", "pods is forbidden")))
    assert [seconds for _, seconds in queue.later] == [1]
    assert results == ["error"]
    assert "403 Forbidden: pods is forbidden" in caplog.text
    assert "Traceback" not in caplog.text


def test_who_may_not_write_does_not_try_again() -> None:
    queue, results = run_passes(raises(NotLeaderError("nothing is written")))
    assert (queue.later, results) == ([], ["error"])


def test_the_pass_is_known_to_what_it_calls() -> None:
    seen = []

    async def reconcile(_key: Key) -> Result:
        seen.append(current_pass.get())
        return Result()

    run_passes(reconcile, passes=2)
    first, second = seen
    assert first
    assert second
    assert first.key == KEY
    assert first.id != second.id
    assert current_pass.get() is None


def test_stopping_lets_a_pass_end() -> None:
    async def scenario() -> list[str]:
        story: list[str] = []
        began, go_on = asyncio.Event(), asyncio.Event()

        async def reconcile(key: Key) -> Result:
            story.append(f"{key.name} began")
            began.set()
            await go_on.wait()
            story.append(f"{key.name} ended")
            return Result()

        queue: WorkQueue[Key] = WorkQueue()
        workers = Workers(queue, reconcile, count=1)
        workers.start()
        queue.add(KEY)
        queue.add(Key("ns", "waits"))
        await began.wait()
        stopping = asyncio.create_task(workers.stop(grace_seconds=10))
        await asyncio.sleep(0)
        go_on.set()
        await stopping
        return story

    assert asyncio.run(scenario()) == ["qwen3 began", "qwen3 ended"]


def test_stopping_cancels_a_pass_that_does_not_end(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> bool:
        began, cancelled = asyncio.Event(), asyncio.Event()

        async def reconcile(_key: Key) -> Result:
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()
            return Result()

        queue: WorkQueue[Key] = WorkQueue()
        workers = Workers(queue, reconcile, count=2)
        workers.start()
        queue.add(KEY)
        await began.wait()
        async with asyncio.timeout(10):
            await workers.stop(grace_seconds=0.01)
        return cancelled.is_set()

    assert asyncio.run(scenario())
    assert "did not end within 0.01 s" in caplog.text


def test_resync_spreads_the_keys_and_survives_an_error() -> None:
    keys = [Key("ns", str(number)) for number in range(4)]
    answers: list[list[Key] | ApiError] = [ApiError(0, "ClientError", "no route"), keys]
    slept: list[float] = []

    async def list_keys() -> Iterable[Key]:
        answer = answers.pop(0)
        if isinstance(answer, ApiError):
            raise answer
        return answer

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            raise asyncio.CancelledError

    draws = iter([0.0, 0.25, 0.5, 0.75])
    queue = RecordingQueue()
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(resync(queue, list_keys, 300, draw=lambda: next(draws), sleep=sleep))
    assert queue.later == list(zip(keys, [0, 37.5, 75, 112.5], strict=True))
    assert slept == [300, 300, 300]
