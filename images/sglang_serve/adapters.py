"""LoRA adapters of a running engine: what is loaded follows what is wanted, in the background.

`steps` decides and is pure. `Adapters` carries out: downloads run beside one another and beside the requests, and so do
removals, which may wait long for the last user; only the engine's own loading is one at a time. A failure is a row of
the report and is tried again; it stops nothing else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from sglang_serve.args import AdapterArgs
from sglang_serve.errors import StartError, without_queries

RETRY_SECONDS = 60.0  # until a failed adapter is tried again
FIRST_SECONDS = 300.0  # that a starting replica waits for its adapters; what is still on its way then goes on
FETCHES = 16  # at a time; more of them wait
LONGEST_TEXT = 1000
State = Literal["Loading", "Loaded", "Failed"]


@dataclass(frozen=True)
class Unload:
    """Take this adapter out of the engine."""

    name: str


@dataclass(frozen=True)
class Load:
    """Put this adapter into the engine, in the place of another of its name if it `replaces` one."""

    adapter: AdapterArgs
    replaces: bool = False


def steps(
    wanted: Sequence[AdapterArgs], loaded: Mapping[str, AdapterArgs], budget: int
) -> tuple[tuple[Unload, ...], tuple[Load, ...]]:
    """What to do, first to last, so that just the first `budget` of the wanted are loaded. `loaded`: by name.

    Never more than `budget` are loaded on the way; what is loaded as it is wanted is left alone.
    """
    kept = {one.name: one for one in wanted[:budget]}
    gone = tuple(Unload(name) for name in loaded if name not in kept)
    come = tuple(Load(one, one.name in loaded) for one in kept.values() if loaded.get(one.name) != one)
    return gone, come


class Engine(Protocol):
    """What of the engine is used. The two that load raise whatever is wrong."""

    async def load_adapter(self, name: str, path: Path) -> None:
        """Returns when requests may name it."""

    async def unload_adapter(self, name: str) -> None:
        """No request may name it any more; returns when those that did are over. Others can be loaded meanwhile."""

    def name_adapters(self, names: Collection[str]) -> None:
        """Let these names mean adapters in requests, also while they are not loaded."""


@dataclass(frozen=True)
class _Failure:
    message: str
    retry_at: float


class Adapters:
    """Keeps an engine's adapters as they are wanted. `fetch` gives the directory of one and blocks meanwhile."""

    def __init__(
        self,
        engine: Engine,
        budget: int,
        fetch: Callable[[AdapterArgs], Path],
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._budget = budget
        self._fetch = fetch
        self._say = say
        self._clock = clock
        # Not the loop's own threads, which are few: SGLang prepares every request in one of them.
        self._threads = ThreadPoolExecutor(FETCHES, "adapters")
        self._wanted: tuple[AdapterArgs, ...] = ()
        self._loaded: dict[str, AdapterArgs] = {}
        self._failed: dict[AdapterArgs, _Failure] = {}
        self._fetching: dict[AdapterArgs, asyncio.Future[Path]] = {}
        self._dropping: dict[str, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._moved = asyncio.Condition()
        self._loop: asyncio.Task[None] | None = None

    def want(self, adapters: Sequence[AdapterArgs]) -> None:
        """Let these be loaded and no others; returns at once. Failed ones are tried again."""
        self._wanted = tuple(adapters)
        self._failed.clear()
        self._engine.name_adapters([one.name for one in adapters])
        self._wake.set()
        if self._loop is None:
            self._loop = asyncio.create_task(self._run())

    async def settle(self, seconds: float = FIRST_SECONDS) -> None:
        """Wait until each is loaded or has failed, at most so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._moved:
                await self._moved.wait_for(lambda: all(row["state"] != "Loading" for row in self.rows()))

    def rows(self) -> list[dict[str, str]]:
        """One for each that is wanted, in that order: name, state and what is wrong."""
        return [self._row(index, one) for index, one in enumerate(self._wanted)]

    def _row(self, index: int, one: AdapterArgs) -> dict[str, str]:
        state: State = "Loading"
        message = ""
        if index >= self._budget:
            state, message = "Failed", f"this revision has room for {self._budget} (spec.model.lora.maxLoaded)"
        elif self._loaded.get(one.name) == one and one.name not in self._dropping:
            state = "Loaded"
        elif failure := self._failed.get(one):
            state, message = "Failed", failure.message
        return {"name": one.name, "state": state, "message": message}

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            await self._round()
            async with self._moved:
                self._moved.notify_all()
            is_done = not any(steps(self._wanted, self._loaded, self._budget))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), None if is_done else RETRY_SECONDS)

    async def _round(self) -> None:
        """Do what can be done now; a download or a removal that ends, or another wish, wakes the next round."""
        wanted = self._wanted
        gone, come = steps(wanted, self._loaded, self._budget)
        for old in [one for one in self._fetching if one not in wanted]:
            self._fetching.pop(old)  # its thread goes on and is not heard
        for unload in gone:
            self._drop(unload.name)
        for load in come:
            if self._wanted is not wanted:
                return
            await self._try(load)

    def _drop(self, name: str) -> None:
        if name not in self._dropping:
            self._dropping[name] = asyncio.create_task(self._unload(name))
            self._dropping[name].add_done_callback(lambda task: self._dropped(name, task))

    def _dropped(self, name: str, task: asyncio.Task[None]) -> None:
        del self._dropping[name]
        if task.cancelled():
            return
        if error := task.exception():
            self._say(f"adapter {name} cannot be unloaded: {_text(error)}")  # after RETRY_SECONDS again
        else:
            self._wake.set()

    async def _try(self, load: Load) -> None:
        one, failure = load.adapter, self._failed.get(load.adapter)
        if failure and self._clock() < failure.retry_at:
            return
        fetching = self._fetching.get(one) or self._begin(one)
        if not fetching.done():
            return
        try:
            await self._place(load, fetching.result())
        except Exception as error:  # noqa: BLE001 - whatever it was is told of this adapter
            self._fetching.pop(one, None)
            self._failed[one] = _Failure(_text(error), self._clock() + RETRY_SECONDS)
            self._say(f"adapter {one.name} failed: {_text(error)}")

    async def _place(self, load: Load, path: Path) -> None:
        """Load it where there is a place for it; one that is removed has its place until its last user is gone."""
        if load.replaces:
            return self._drop(load.adapter.name)
        if len(self._loaded) < self._budget:
            await self._load(load.adapter, path)
        return None

    def _begin(self, one: AdapterArgs) -> asyncio.Future[Path]:
        self._say(f"adapter {one.name}: looking for {one.uri}")
        task = asyncio.ensure_future(asyncio.get_running_loop().run_in_executor(self._threads, self._fetch, one))
        task.add_done_callback(lambda _: self._wake.set())
        self._fetching[one] = task
        return task

    async def _load(self, one: AdapterArgs, path: Path) -> None:
        await self._engine.load_adapter(one.name, path)
        self._fetching.pop(one, None)
        self._loaded[one.name] = one
        self._failed.pop(one, None)
        self._say(f"adapter {one.name} is loaded from {one.uri}")

    async def _unload(self, name: str) -> None:
        await self._engine.unload_adapter(name)
        del self._loaded[name]
        self._say(f"adapter {name} is unloaded")


def _text(error: BaseException) -> str:
    """One line; what StartError advises is about the model, not about an adapter of it."""
    said = f"{error.reason}: {error.message}" if isinstance(error, StartError) else without_queries(str(error))
    return " ".join(said.split())[:LONGEST_TEXT] or type(error).__name__
