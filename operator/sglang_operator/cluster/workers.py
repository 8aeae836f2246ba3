"""What turns keys into passes: workers that run `reconcile`, and the resync that finds what a watch has missed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from sglang_operator.cluster.api import ApiError
from sglang_operator.cluster.lease import NotLeaderError
from sglang_operator.cluster.queue import ShutDownError, WorkQueue
from sglang_operator.cluster.types import Key, Result

log: Final = logging.getLogger(__name__)

CONFLICT_SECONDS: Final = 0.1  # somebody wrote in between: the next pass reads it and will probably succeed

Reconcile = Callable[[Key], Awaitable[Result]]
ListKeys = Callable[[], Awaitable[Iterable[Key]]]
ObservePass = Callable[[str, float], None]

SUCCESS: Final = "success"
REQUEUE_AFTER: Final = "requeue_after"
CONFLICT: Final = "conflict"
ERROR: Final = "error"
RESULTS: Final = (SUCCESS, REQUEUE_AFTER, CONFLICT, ERROR)


@dataclass(frozen=True)
class Pass:
    """One run of `reconcile`, for the log lines that it writes."""

    key: Key
    id: str


current_pass: Final[ContextVar[Pass | None]] = ContextVar("current_pass", default=None)


class Workers:
    """`count` tasks that run passes, one per key at a time. `observe(result, seconds)` hears of each; see RESULTS."""

    def __init__(
        self, queue: WorkQueue[Key], reconcile: Reconcile, *, count: int, observe: ObservePass = lambda *_: None
    ) -> None:
        self._queue, self._reconcile, self._observe = queue, reconcile, observe
        self._count = count
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin, in the running loop."""
        self._tasks = [asyncio.create_task(self._work(), name=f"worker {index}") for index in range(self._count)]

    async def join(self) -> None:
        """Wait until they are stopped; cancelling this does not. Raises what ended a worker: a mistake of its own."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()

    async def stop(self, grace_seconds: float) -> None:
        """Take no more keys, let the running passes end within `grace_seconds`, cancel those that do not."""
        self._queue.shut_down()
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=grace_seconds)
        for task in late:
            log.warning("%s: its pass did not end within %g s and is cancelled", task.get_name(), grace_seconds)
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def _work(self) -> None:
        with contextlib.suppress(ShutDownError):
            while True:
                key = await self._queue.get()
                try:
                    await self._run(key)
                finally:
                    self._queue.done(key)

    async def _run(self, key: Key) -> None:
        token = current_pass.set(Pass(key, secrets.token_hex(4)))
        began = time.monotonic()
        try:
            result = await self._outcome(key)
            self._observe(result, time.monotonic() - began)
        finally:
            current_pass.reset(token)

    async def _outcome(self, key: Key) -> str:
        try:
            result = await self._reconcile(key)
        except ApiError as error:
            return self._refused(key, error)
        except NotLeaderError as error:
            log.warning("%s: %s", key, error)
        except Exception:  # a worker outlives every mistake in a pass
            log.exception("%s: the pass failed; again in %.1f s", key, self._queue.retry(key))
        else:
            return self._succeeded(key, result)
        return ERROR

    def _refused(self, key: Key, error: ApiError) -> str:
        seconds = self._queue.retry(key, CONFLICT_SECONDS if error.is_conflict else None)
        level = logging.INFO if error.is_conflict else logging.WARNING
        log.log(level, "%s: %s%s; again in %.1f s", key, error, error.advice, seconds)
        return CONFLICT if error.is_conflict else ERROR

    def _succeeded(self, key: Key, result: Result) -> str:
        self._queue.forget(key)
        if result.requeue_after is not None:
            self._queue.add_after(key, result.requeue_after)
        if result.look_after is not None:
            self._queue.look_again(key, result.look_after)
        return SUCCESS if result == Result() else REQUEUE_AFTER


async def resync(
    queue: WorkQueue[Key],
    list_keys: ListKeys,
    seconds: float,
    *,
    draw: Callable[[], float] = random.random,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """For ever: every `seconds` a pass for each key, spread over half of that time so that they do not come at once."""
    while True:
        await sleep(seconds)
        try:
            keys = list(await list_keys())
        except ApiError as error:
            log.warning("resync: the endpoints cannot be listed, next try in %g s: %s%s", seconds, error, error.advice)
            continue
        for key in keys:
            queue.add_after(key, draw() * seconds / 2)
        log.debug("resync: %d endpoints", len(keys))
