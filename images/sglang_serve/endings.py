"""A request is over when its answer is: what SGLang does after it keeps no place.

SGLang hangs a task of two seconds behind each of its streams (`TokenizerManager.create_abort_task`), and an ASGI app
returns only after that. Ray Serve counts requests by when the app returns: a stream of one second would count as three,
and an endpoint get three times the replicas that it was told to have. Uvicorn, natively, counts nothing.

Nor does uvicorn end a handler whose client has left: it tells it. Ray Serve cancels it, which frees the slot of an
answer that nobody reads at once. An order to the engine is not to be left in the middle: SGLang kills the process when
the answer to an order comes that nobody awaits (0.5.23).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("ray.serve")


class EndWithBodyMiddleware:
    """Returns as soon as the last byte of the body was sent; the app goes on by itself. Innermost: all others, and Ray
    Serve, then see when a request is over. `ends_with_client`: whether it is cancelled when its client leaves."""

    def __init__(self, app: ASGIApp, ends_with_client: Callable[[Scope], bool]) -> None:
        self._app = app
        self._ends_with_client = ends_with_client
        self._goes_on: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        call = _Call(receive, send)
        running = asyncio.ensure_future(self._run(scope, call.receive, call.send))
        try:
            await asyncio.wait({running, call.over}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            call.over.cancel()
            await self._leave(running, is_ended=call.reads or self._ends_with_client(scope))
            raise
        return self._let_go_on(running) if call.over.done() else running.result()

    async def _leave(self, running: asyncio.Task[None], *, is_ended: bool) -> None:
        if not is_ended:
            return self._let_go_on(running)
        running.cancel()
        await asyncio.wait({running})
        return None

    def _let_go_on(self, running: asyncio.Task[None]) -> None:
        self._goes_on.add(running)  # the loop itself remembers no task
        running.add_done_callback(self._forget)

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    def _forget(self, ended: asyncio.Task[None]) -> None:
        self._goes_on.discard(ended)
        if not ended.cancelled() and (error := ended.exception()) is not None:
            log.warning("after a request was over: %r", error)


class _Call:
    """One request, as the app sees it."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done with the last byte of the answer, cancelled when the client has left."""
        self.reads = False
        """It waits for more of the request, which after its client's leaving may never come."""

    async def receive(self) -> Message:
        self.reads = True
        message = await self._receive()
        self.reads = False
        return message

    async def send(self, message: Message) -> None:
        if not self.over.cancelled():
            await self._send(message)
        is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if is_last and not self.over.done():
            self.over.set_result(None)
