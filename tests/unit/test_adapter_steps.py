"""Adapters of an engine follow what is wanted: the decision, and the loop that carries it out."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sglang_serve import adapters
from sglang_serve.adapters import Adapters, Load, Unload, steps
from sglang_serve.args import AdapterArgs
from sglang_serve.errors import StartError

SQL, LEGAL = AdapterArgs("sql", "file:///sql"), AdapterArgs("legal", "file:///legal")
SQL_2 = AdapterArgs("sql", "file:///sql-2")

_some = st.lists(
    st.builds(AdapterArgs, st.sampled_from("abcd"), st.sampled_from(["x", "y"])), unique_by=lambda one: one.name
)


def named(some: Sequence[AdapterArgs]) -> dict[str, AdapterArgs]:
    return {one.name: one for one in some}


@given(wanted=_some, loaded=_some, budget=st.integers(1, 4))
def test_steps_lead_to_what_is_wanted_within_the_budget(
    wanted: list[AdapterArgs], loaded: list[AdapterArgs], budget: int
) -> None:
    now, most = named(loaded), max(budget, len(loaded))
    gone, come = steps(wanted, now, budget)
    touched = {one.name for one in gone} | {one.adapter.name for one in come}
    assert not touched & {one.name for one in wanted[:budget] if now.get(one.name) == one}, "left alone"
    for unload in gone:
        del now[unload.name]
    for load in come:
        assert load.replaces == (load.adapter.name in now)
        now[load.adapter.name] = load.adapter
        assert len(now) <= most
    assert now == named(wanted[:budget])
    assert steps(wanted, now, budget) == ((), ())


def test_removals_come_first_and_a_changed_address_replaces() -> None:
    assert steps([SQL_2], named([SQL, LEGAL]), 2) == ((Unload("legal"),), (Load(SQL_2, replaces=True),))


class Ledger:
    """The engine's part: what it was told, in order. Paths that do not exist fail."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.names: set[str] = set()
        self.loaded = asyncio.Event()
        self.unloaded = asyncio.Event()
        self.unused = asyncio.Event()
        self.unused.set()

    async def load_adapter(self, name: str, path: Path) -> None:
        if path.name == "broken":
            raise RuntimeError("rank 128\n is too much")
        self.told.append(f"load {name} {path}")
        self.loaded.set()

    async def unload_adapter(self, name: str) -> None:
        self.told.append(f"unload {name}")
        await self.unused.wait()
        self.unloaded.set()

    def name_adapters(self, names: Collection[str]) -> None:
        self.names = set(names)


class Source:
    """Where adapters are fetched from; `gate` holds those at slow:// back."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.absent = True

    def __call__(self, one: AdapterArgs) -> Path:
        if one.uri.startswith("slow://"):
            self.gate.wait(10)
        if one.uri.startswith("absent://") and self.absent:
            raise StartError("ModelNotFound", "nothing there")
        return Path(one.uri.partition("://")[2])


def run(check: Callable[[Adapters, Ledger, Source], Awaitable[None]], budget: int = 4) -> None:
    async def main() -> None:
        engine, source = Ledger(), Source()
        try:
            await check(Adapters(engine, budget, source, lambda _: None), engine, source)
        finally:
            source.gate.set()

    asyncio.run(main())


def states(manager: Adapters) -> dict[str, str]:
    return {row["name"]: row["state"] for row in manager.rows()}


def test_it_settles_when_each_is_loaded_or_has_failed() -> None:
    async def check(manager: Adapters, engine: Ledger, _: Source) -> None:
        manager.want([SQL, AdapterArgs("gone", "absent://x"), AdapterArgs("bad", "file://broken")])
        assert set(states(manager).values()) == {"Loading"}
        assert engine.names == {"sql", "gone", "bad"}, "a request for one that is not loaded is refused"
        await manager.settle()
        assert states(manager) == {"sql": "Loaded", "gone": "Failed", "bad": "Failed"}
        messages = [row["message"] for row in manager.rows()]
        assert messages == ["", "ModelNotFound: nothing there", "rank 128 is too much"]

    run(check)


def test_slow_ones_hold_up_no_request() -> None:
    """SGLang prepares each request in a thread of the loop's own, of which a replica of one core has five."""

    async def check(manager: Adapters, _: Ledger, source: Source) -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
        manager.want([AdapterArgs(f"slow-{number}", f"slow://{number}") for number in range(4)])
        await manager.settle(0.2)
        assert set(states(manager).values()) == {"Loading"}
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "request"), 5) == "request"

    run(check)


def test_a_slow_one_holds_up_no_other_and_a_start_waits_so_long_only() -> None:
    async def check(manager: Adapters, _: Ledger, source: Source) -> None:
        slow = AdapterArgs("slow", "slow://x")
        manager.want([slow, SQL])
        await manager.settle(0.2)
        assert states(manager) == {"slow": "Loading", "sql": "Loaded"}
        source.gate.set()
        await manager.settle()
        assert states(manager) == {"slow": "Loaded", "sql": "Loaded"}

    run(check)


def test_a_change_loads_unloads_and_replaces() -> None:
    async def check(manager: Adapters, engine: Ledger, _: Source) -> None:
        manager.want([SQL, LEGAL])
        await manager.settle()
        manager.want([SQL_2])
        await manager.settle()
        assert engine.told[2:] == ["unload legal", "unload sql", "load sql /sql-2"]

    run(check)


def test_one_that_is_removed_under_a_long_stream_holds_up_no_other_that_finds_a_place() -> None:
    async def check(manager: Adapters, engine: Ledger, _: Source) -> None:
        manager.want([SQL])
        await manager.settle()
        engine.unused.clear()
        more = AdapterArgs("more", "file:///more")
        manager.want([LEGAL, more])
        await manager.settle(0.2)
        assert engine.told[1:] == ["unload sql", "load legal /legal"]
        assert states(manager) == {"legal": "Loaded", "more": "Loading"}, "there is room for two"
        engine.unused.set()
        await manager.settle(5)
        assert engine.told[3:] == ["load more /more"]

    run(check, budget=2)


def test_one_that_is_wanted_again_while_it_goes_comes_again() -> None:
    async def check(manager: Adapters, engine: Ledger, _: Source) -> None:
        manager.want([SQL])
        await manager.settle()
        engine.unused.clear()
        manager.want([])
        await asyncio.sleep(0.02)
        manager.want([SQL])
        assert states(manager) == {"sql": "Loading"}
        engine.unused.set()
        await manager.settle(5)
        assert engine.told == ["load sql /sql", "unload sql", "load sql /sql"]

    run(check)


def test_one_that_cannot_be_removed_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(manager: Adapters, engine: Ledger, _: Source) -> None:
        manager.want([SQL])
        await manager.settle()
        native, tries = engine.unload_adapter, [RuntimeError("not now")]

        async def unload(name: str) -> None:
            if tries:
                raise tries.pop()
            await native(name)

        monkeypatch.setattr(engine, "unload_adapter", unload)
        manager.want([LEGAL])
        await manager.settle()
        async with asyncio.timeout(5):
            await engine.unloaded.wait()
        assert engine.told[1:] == ["load legal /legal", "unload sql"]

    monkeypatch.setattr(adapters, "RETRY_SECONDS", 0.05)
    run(check)


def test_what_cannot_be_fetched_leaves_the_former_one_in_place() -> None:
    async def check(manager: Adapters, engine: Ledger, _: Source) -> None:
        manager.want([SQL])
        await manager.settle()
        manager.want([AdapterArgs("sql", "absent://x")])
        await manager.settle()
        assert (states(manager), engine.told) == ({"sql": "Failed"}, ["load sql /sql"])

    run(check)


def test_a_failed_one_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(manager: Adapters, engine: Ledger, source: Source) -> None:
        manager.want([AdapterArgs("later", "absent://x")])
        await manager.settle()
        assert states(manager) == {"later": "Failed"}
        source.absent = False
        await asyncio.wait_for(engine.loaded.wait(), 10)
        assert states(manager) == {"later": "Loaded"}

    monkeypatch.setattr(adapters, "RETRY_SECONDS", 0.05)
    run(check)


def test_more_than_there_is_room_for_are_reported() -> None:
    async def check(manager: Adapters, engine: Ledger, _: Source) -> None:
        manager.want([SQL, LEGAL])
        await manager.settle()
        assert engine.told == ["load sql /sql"]
        assert "spec.model.lora.maxLoaded" in manager.rows()[1]["message"]

    run(check, budget=1)
