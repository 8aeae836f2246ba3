"""A websocket's messages wait at the client while the app is slow, as natively.

Ray Serve reads a websocket as fast as it comes and keeps what the app has not taken, without a bound; an app that waits
for the model takes nothing for seconds. So the outermost middleware hands on no more than `MOST_BYTES` ahead of the
app, and the one next to the app says what that takes. Both are in the replica's process, on its one event loop
(RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD=0), and Serve hands the same scope from one to the other.

While there is no room nobody sees that the client has left, as natively: the engine works on until the app reads again.

A websocket that woke the endpoint stays on the way through the head, whose proxy sends messages to the replica as they
come: it has no credit, and no bound.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sglang_serve import hold

KEY: Final = "sglang_serve.credit"  # of the scope
# A minute of speech as OpenAI's clients send it. While uvicorn waits it hears no answer to its pings, and ends the
# connection after 40 s.
MOST_BYTES: Final = 4 * 2**20  # of text: characters, which speech in base64 has one of for each byte
MESSAGE_BYTES: Final = 1024  # what Python keeps with each, however short


class Credit:
    """Of one websocket: how much the app may have before it."""

    def __init__(self) -> None:
        self._ahead = 0
        self._room = asyncio.Event()
        self._room.set()

    async def take(self, message: Message) -> None:
        """Return when this one may be handed on. The end may always: nothing comes after it."""
        if message["type"] != "websocket.disconnect":
            await self._room.wait()
        self._count(_size(message))

    def give_back(self, message: Message) -> None:
        """The app has taken it."""
        self._count(-_size(message))

    def _count(self, size: int) -> None:
        self._ahead += size
        if self._ahead < MOST_BYTES:
            self._room.set()
        else:
            self._room.clear()


def _size(message: Message) -> int:
    return MESSAGE_BYTES + len(message.get("bytes") or message.get("text") or "")


class TakeCreditMiddleware:
    """Around Serve's handling, where `is_replica`: the head's proxy would send the credit with the scope."""

    def __init__(self, app: ASGIApp, is_replica: Callable[[], bool] | None = None) -> None:
        self._app = app
        self._is_replica = is_replica or hold.in_replica

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "websocket" or not self._is_replica():
            return await self._app(scope, receive, send)
        credit = scope[KEY] = Credit()

        async def when_there_is_room() -> Message:
            message = await receive()
            await credit.take(message)
            return message

        return await self._app(scope, when_there_is_room, send)


class GiveCreditMiddleware:
    """Around the app."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        credit: Credit | None = scope.get(KEY)
        if credit is None:
            return await self._app(scope, receive, send)

        async def and_give_back() -> Message:
            message = await receive()
            credit.give_back(message)
            return message

        return await self._app(scope, and_give_back, send)
