"""A head with the hold around a proxy of the tests': what requests meet while no replica runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from starlette.types import Receive, Scope, Send

from sglang_serve.hold import HoldMiddleware
from sglang_serve.keys import KeyRing
from sglang_serve.replies import send_json
from sglang_serve.situation import Situation

ASLEEP = Situation(running=0, target=0, hold_seconds=10, may_sleep=True)
AT_ZERO = {"target": 0, "wished_seconds": 0.0, "hold_seconds": 10}  # in what it reports


@dataclass
class Proxy:
    """Ray Serve's proxy as an app: it answers once a replica is up, and lets a client that leaves go."""

    up: asyncio.Event = field(default_factory=asyncio.Event)
    left: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        waiting = asyncio.ensure_future(self.up.wait())
        leaving = asyncio.ensure_future(self._disconnect(receive))
        await asyncio.wait({waiting, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if leaving.done():
            self.left += 1
            return await send_json(send, 499, {})
        leaving.cancel()
        return await send_json(send, 200, {})

    async def _disconnect(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass


class Head:
    """The middleware with a clock and a controller of the test's."""

    def __init__(self, situation: Situation = ASLEEP, rings: Sequence[KeyRing] = ()) -> None:
        self.now = 0.0
        self.situation: Situation | None = situation
        self.looked = asyncio.Event()
        self.is_silent = False  # Ray lets calls of a controller that starts anew wait for it
        self.proxy = Proxy()
        self.app = HoldMiddleware(self.proxy, self.look, lambda: False, lambda: self.now, rings)

    async def look(self) -> Situation | None:
        if self.is_silent:
            await asyncio.Event().wait()
        self.looked.set()
        return self.situation

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://head") as client:
            yield client


def run(
    work: Callable[[Head, httpx.AsyncClient], Coroutine[Any, Any, None]],
    situation: Situation = ASLEEP,
    rings: Sequence[KeyRing] = (),
) -> None:
    async def main() -> None:
        head = Head(situation, rings)
        async with head.client() as client:
            await asyncio.wait_for(work(head, client), 5)

    asyncio.run(main())


async def ask(head: Head, client: httpx.AsyncClient, content: bytes = b"{}") -> asyncio.Task[httpx.Response]:
    """A request that has got as far as it gets by now."""
    asked = asyncio.create_task(client.post("/v1/chat/completions", content=content))
    await asyncio.sleep(0.02)
    assert not asked.done()
    return asked
