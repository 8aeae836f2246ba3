"""How far a websocket's messages run ahead of a slow app, behind what Ray Serve puts between."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from sglang_serve import credit
from sglang_serve.credit import GiveCreditMiddleware, TakeCreditMiddleware

LARGE = credit.MOST_BYTES // 4
MANY = 10_000


class Client:
    """Sends these messages one after the other, as fast as they are taken, and then leaves."""

    def __init__(self, *messages: Message) -> None:
        self._messages = [{"type": "websocket.connect"}, *messages]
        self.taken = 0

    async def receive(self) -> Message:
        if self.taken == len(self._messages):
            return {"type": "websocket.disconnect", "code": 1005}
        self.taken += 1
        return self._messages[self.taken - 1]


def reads_on(app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> Callable[[Scope, Receive, Send], Any]:
    """As Ray Serve's ASGIDIReceiveProxy does (2.60), with the same scope and without a bound."""

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        kept: asyncio.Queue[Message] = asyncio.Queue()

        async def fetch() -> None:
            while (message := await receive())["type"] != "websocket.disconnect":
                kept.put_nowait(message)
            kept.put_nowait(message)

        fetching = asyncio.create_task(fetch())
        try:
            await app(scope, kept.get, send)
        finally:
            fetching.cancel()

    return served


async def settle() -> None:
    for _ in range(3 * MANY):
        await asyncio.sleep(0)


class SlowApp:
    """Takes as many messages as it is told to."""

    def __init__(self) -> None:
        self.got: list[Message] = []
        self.may = asyncio.Semaphore(0)

    async def __call__(self, _scope: Scope, receive: Receive, _send: Send) -> None:
        while not self.got or self.got[-1]["type"] != "websocket.disconnect":
            await self.may.acquire()
            self.got.append(await receive())

    async def take(self, count: int) -> None:
        for _ in range(count):
            self.may.release()
        await settle()


async def no_send(_: Message) -> None: ...


def connect(client: Client, app: SlowApp, *, is_replica: bool = True) -> asyncio.Task[None]:
    served = TakeCreditMiddleware(reads_on(GiveCreditMiddleware(app)), is_replica=lambda: is_replica)

    async def run() -> None:
        await served({"type": "websocket", "path": "/v1/realtime"}, client.receive, no_send)

    return asyncio.create_task(run())


def message(size: int, kind: str = "bytes") -> Message:
    return {"type": "websocket.receive", kind: b"x" * size if kind == "bytes" else "x" * size}


@pytest.mark.parametrize("kind", ["bytes", "text"])
def test_a_client_waits_for_a_slow_app_and_nothing_is_lost(kind: str) -> None:
    async def run() -> None:
        client, app = Client(*(message(LARGE, kind) for _ in range(20))), SlowApp()
        connected = connect(client, app)
        await settle()
        first = client.taken
        assert first <= 6, "four fit, the websocket's beginning, one that waits"
        await app.take(3)
        assert client.taken == first + 2, "the beginning is small"
        await app.take(22)
        await asyncio.wait_for(connected, 10)
        assert [len(one.get(kind, "")) for one in app.got] == [0, *[LARGE] * 20, 0]

    asyncio.run(run())


def test_short_messages_are_bounded_too() -> None:
    async def run() -> None:
        client, app = Client(*(message(1) for _ in range(MANY))), SlowApp()
        connected = connect(client, app)
        await settle()
        assert client.taken <= credit.MOST_BYTES // credit.MESSAGE_BYTES + 1
        connected.cancel()

    asyncio.run(run())


def test_an_end_is_heard_whatever_is_ahead_of_the_app() -> None:
    async def run() -> None:
        ahead = [message(credit.MOST_BYTES)]
        client, kept = Client(*ahead), SlowApp()
        served: list[Message] = []

        async def serve(_scope: Scope, receive: Receive, _send: Send) -> None:
            while not served or served[-1]["type"] != "websocket.disconnect":
                served.append(await receive())

        await asyncio.wait_for(
            TakeCreditMiddleware(serve, is_replica=lambda: True)({"type": "websocket"}, client.receive, no_send), 10
        )
        assert (len(served), kept.got) == (3, [])

    asyncio.run(run())


def test_the_heads_proxy_sends_its_scope_elsewhere_and_has_no_credit_in_it() -> None:
    async def run() -> None:
        seen: list[Scope] = []

        async def proxy(scope: Scope, _receive: Receive, _send: Send) -> None:
            seen.append(scope)

        for kind, is_replica in (("websocket", False), ("http", True)):
            await TakeCreditMiddleware(proxy, is_replica=lambda it=is_replica: it)(  # type: ignore[misc]
                {"type": kind}, Client().receive, no_send
            )
        assert seen == [{"type": "websocket"}, {"type": "http"}]

    asyncio.run(run())
