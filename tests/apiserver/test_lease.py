"""The Lease on a real API server, with times short enough for a test."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from apiserver.passes import open_api
from waiting import PATIENCE

from sglang_operator.cluster.api import Api
from sglang_operator.cluster.leadership import Timing
from sglang_operator.cluster.lease import Lease, LeaseLostError, NotLeaderError
from sglang_operator.cluster.paths import LEASE

if TYPE_CHECKING:
    from localcluster import ControlPlane

QUICK = Timing(duration=3, renew_deadline=2, retry=0.2, margin=0.5)
SECONDS = 20


class Election:
    """A Lease of one test, and processes that want it."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.name = f"l-{uuid.uuid4().hex[:8]}"
        self.path = LEASE.of("default", self.name)

    def member(self, identity: str, api: Api | None = None) -> Lease:
        return Lease(api or self.api, "default", self.name, identity, timing=QUICK)

    async def spec(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.api.get(self.path))["spec"]
        return found

    async def set_holder(self, identity: str) -> None:
        await self.api.patch(self.path, {"spec": {"holderIdentity": identity}})


Body = Callable[[Election], Awaitable[None]]


@pytest.fixture
def run(control_plane: ControlPlane) -> Callable[[Body], None]:
    async def main(body: Body) -> None:
        async with _api(control_plane) as api, asyncio.timeout(SECONDS * PATIENCE):
            election = Election(api)
            try:
                await body(election)
            finally:
                await api.delete(election.path)

    return lambda body: asyncio.run(main(body))


@asynccontextmanager
async def _api(control_plane: ControlPlane) -> AsyncIterator[Api]:
    api = await open_api(control_plane.kubeconfig)
    try:
        yield api
    finally:
        await api.close()


def test_the_first_one_leads_and_the_second_waits(run: Callable[[Body], None]) -> None:
    async def body(election: Election) -> None:
        a, b = election.member("a"), election.member("b")
        await a.acquire()
        assert a.may_write()
        spec = await election.spec()
        assert (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"]) == ("a", 3, 0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await b.acquire()
        assert not b.may_write()
        with pytest.raises(NotLeaderError, match="is not ours, or about to end"):
            b.guard()

    run(body)


def test_a_released_lease_goes_over_at_once(run: Callable[[Body], None]) -> None:
    async def body(election: Election) -> None:
        a, b = election.member("a"), election.member("b")
        await a.acquire()
        waiting = asyncio.create_task(b.acquire())
        await asyncio.wait([waiting], timeout=2 * QUICK.retry)
        began = time.monotonic()
        await a.release()
        assert not a.may_write()
        await waiting
        assert time.monotonic() - began < QUICK.duration / 2, "it waited for the end of the lease"
        assert (await election.spec())["leaseTransitions"] == 1

    run(body)


def test_a_leader_that_renews_keeps_the_lease(run: Callable[[Body], None]) -> None:
    async def body(election: Election) -> None:
        a, b = election.member("a"), election.member("b")
        await a.acquire()
        first = (await election.spec())["renewTime"]
        keeping, waiting = asyncio.create_task(a.keep()), asyncio.create_task(b.acquire())
        await asyncio.wait([keeping, waiting], timeout=QUICK.duration * 1.5)
        assert not keeping.done()
        assert not waiting.done()
        assert (await election.spec())["renewTime"] > first
        keeping.cancel()
        await waiting
        assert not a.may_write(), "the lease of one that stopped to renew went over while it could write"

    run(body)


def test_a_leader_that_is_deposed_gives_up(run: Callable[[Body], None]) -> None:
    async def body(election: Election) -> None:
        a = election.member("a")
        await a.acquire()
        await election.set_holder("b")
        with pytest.raises(LeaseLostError, match="is lost: b holds it"):
            await a.keep()
        assert not a.may_write()
        await a.release()
        assert (await election.spec())["holderIdentity"] == "b", "somebody else's lease was released"

    run(body)


def test_a_leader_without_an_api_server_gives_up(run: Callable[[Body], None], caplog: pytest.LogCaptureFixture) -> None:
    async def body(election: Election) -> None:
        cut = [False]

        class Cable(Api):
            """Can be cut."""

            async def _request(self, *arguments: Any) -> tuple[int, bytes]:
                if cut[0]:
                    raise OSError("no route to host")
                return await super()._request(*arguments)

        api = Cable(election.api._client.configuration)
        try:
            a = election.member("a", api)
            await a.acquire()
            cut[0] = True
            with pytest.raises(LeaseLostError, match="not renewed for 2 s"):
                await a.keep()
            await a.release()
        finally:
            await api.close()

    run(body)
    assert "no route to host" in caplog.text
    assert "was not released" in caplog.text


def test_a_deleted_lease_is_made_again(run: Callable[[Body], None]) -> None:
    async def body(election: Election) -> None:
        a = election.member("a")
        await a.acquire()
        keeping = asyncio.create_task(a.keep())
        await election.api.delete(election.path)

        async def is_back() -> bool:
            return await election.api.find(election.path) is not None

        while not await is_back():
            assert not keeping.done()
        keeping.cancel()
        assert (await election.spec())["holderIdentity"] == "a"

    run(body)


def test_of_many_that_start_together_one_leads(run: Callable[[Body], None], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def body(election: Election) -> None:
        members = [election.member(str(number)) for number in range(8)]
        racing = [asyncio.create_task(member.acquire()) for member in members]
        await asyncio.wait(racing, timeout=QUICK.duration / 2)
        assert [member.may_write() for member in members].count(True) == 1
        assert [task.done() for task in racing].count(True) == 1
        for task in racing:
            task.cancel()

    run(body)
    assert "Conflict" not in caplog.text, "a lost race is no warning"
