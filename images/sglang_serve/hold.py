"""What the head does with requests while no replica runs: it holds them, and ends those that wait too long.

HAProxy sends a request that finds no replica to one Python proxy on the head. That queues it until a replica runs,
which is also what makes Ray Serve start one, and for the rest of its life passes it through. `HoldMiddleware` is around
that proxy. It is around every replica as well, because Ray Serve knows one list of middlewares, and does nothing there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sglang_serve import auth, fan_out
from sglang_serve.keys import KeyRing
from sglang_serve.limits import BodyLimitMiddleware
from sglang_serve.replies import cors, error_body, readable, send_json
from sglang_serve.report import PATH, UNCOUNTED
from sglang_serve.situation import Controller, Situation, ask_controller

LOOK_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 30  # a replica takes longer to start than a client should wait between two tries
TRY_AGAIN_LATER: Final = 1013  # code of a websocket's end, from a server that cannot answer it as a request
MOST_HELD: Final = 1000  # requests at one time
MOST_HELD_BYTES: Final = 512 * 2**20  # of their bodies together, or one of the largest allowed; heads have 4 GiB
TOO_LATE: Final = "no replica was up in time (spec.scaling.holdSeconds); one is being started, try again"
TOO_MANY: Final = f"{MOST_HELD} requests already wait for a replica; one is being started, try again"
TOO_MANY_BYTES: Final = "the requests that wait for a replica are too large together; one is being started, try again"
RAYS_OWN: Final = frozenset({"/-/healthz", "/-/routes"})  # of the proxy itself: what HAProxy checks
DENIAL: Final = "websocket.http.response"  # ASGI extension: it can
BEGUN: Final = frozenset(
    {"http.response.start", "websocket.accept", "websocket.close", "websocket.http.response.start"}
)


@dataclass
class _Room:
    """What waits on the head. A body lies in its memory until a replica takes it."""

    bytes: int = 0
    most_bytes: int = MOST_HELD_BYTES


class _Held:
    """One request on its way through the proxy."""

    def __init__(self, now: float, room: _Room) -> None:
        self.since = now
        self.begun = False
        self.may_be_taken = False  # a replica has run while it was here, and may be working on its answer
        self.given_up = asyncio.Event()
        self.why = ""
        self._room = room
        self._bytes = 0

    def give_up(self, why: str) -> None:
        """Let it wait no longer."""
        self.why = why
        self.given_up.set()

    def receive(self, receive: Receive) -> Receive:
        """As if the client had gone once it is given up: then the proxy takes the request out of its queue."""

        async def wrapped() -> Message:
            asked, gone = asyncio.ensure_future(receive()), asyncio.ensure_future(self.given_up.wait())
            try:
                await asyncio.wait({asked, gone}, return_when=asyncio.FIRST_COMPLETED)
                if not gone.done():
                    self._keep(asked.result())
                return {"type": "http.disconnect"} if self.given_up.is_set() else asked.result()
            finally:
                asked.cancel()
                gone.cancel()

        return wrapped

    def send(self, send: Send) -> Send:
        """Notes that the answer has begun; what the proxy says to a client that is not there goes nowhere."""

        async def wrapped(message: Message) -> None:
            if self.given_up.is_set():
                return
            if message["type"] in BEGUN:
                self.begun = True
                self.release()
            await send(message)

        return wrapped

    def _keep(self, message: Message) -> None:
        if self.begun:
            return None
        size = len(message.get("body", b""))
        if self._room.bytes + size > self._room.most_bytes:
            return self.give_up(TOO_MANY_BYTES)
        self._room.bytes += size
        self._bytes += size
        return None

    def release(self) -> None:
        """Its body is not kept any more. Harmless the second time."""
        self._room.bytes -= self._bytes
        self._bytes = 0


class HoldMiddleware:
    """Around the head's proxy; `look` asks the controller, `is_replica` tells whether this process is a replica.

    A key on none of the `rings` starts no replica. Without rings any key does, and the replica refuses it.
    """

    def __init__(
        self,
        app: ASGIApp,
        look: Callable[[], Awaitable[Situation | None]] = ask_controller,
        is_replica: Callable[[], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
        rings: Sequence[KeyRing] = (),
    ) -> None:
        self._app = app
        self._rings = rings
        self._controller = Controller(look, clock)
        self._limited = BodyLimitMiddleware(app, max_bytes=lambda: self._controller.last.max_body_bytes)
        self._room = _Room()
        # As SGLang's app answers browsers. What is no question to it goes on, never to the proxy, which has no bound.
        self._cors = cors(self._hold)
        self._is_replica = is_replica or in_replica
        self._clock = clock
        self._held: set[_Held] = set()
        self._idle_since = clock()
        self._watching: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] not in ("http", "websocket") or scope["path"] in RAYS_OWN or self._is_replica():
            return await self._app(scope, receive, send)
        if scope["path"] == PATH:
            return await self._report(send)
        if scope["path"].startswith(fan_out.PREFIX):
            return await _refuse(scope, send, "no replica runs: there is nothing to administer")
        if _is_preflight(scope):
            return await self._cors(scope, receive, send)
        if scope["path"] in UNCOUNTED and scope["path"] != "/health_generate":
            return await self._answer_watcher(send)
        return await self._hold(scope, receive, send)

    async def _report(self, send: Send) -> None:
        """To the operator, which must not wake anybody: as a replica reports, but nobody is there to generate."""
        idle = 0.0 if self._held else round(self._clock() - self._idle_since, 3)
        said = {"held": len(self._waiting()), "in_flight": len(self._held), "idle_seconds": idle}
        now = await self._controller.situation()
        wish = {"target": now.target, "wished_seconds": round(self._controller.wished_seconds, 3)}
        settings = {"hold_seconds": now.hold_seconds}
        await send_json(send, HTTPStatus.SERVICE_UNAVAILABLE, {**said, **wish, **settings})

    async def _answer_watcher(self, send: Send) -> None:
        """A check or a scrape that comes every few seconds is no reason to load a model."""
        asleep = (await self._controller.situation()).may_sleep
        await send_json(send, HTTPStatus.OK if asleep else HTTPStatus.SERVICE_UNAVAILABLE, {"replicas": 0})

    async def _hold(self, scope: Scope, receive: Receive, send: Send) -> None:
        settings = await self._controller.settings()
        if settings.require_keys and not self._may_wake(scope) and not await self._needs_no_key(scope):
            return await self._let_sleep(scope, send)
        if len(self._waiting()) >= MOST_HELD:
            return await _refuse(scope, send, TOO_MANY)
        self._room.most_bytes = max(MOST_HELD_BYTES, settings.max_body_bytes)
        one = _Held(self._clock(), self._room)
        self._held.add(one)
        if self._watching is None or self._watching.done():
            self._watching = asyncio.ensure_future(self._watch())
        try:
            await self._limited(scope, one.receive(receive), one.send(send))
        finally:
            one.release()
            self._held.discard(one)
            self._idle_since = self._clock()
        if one.given_up.is_set():
            await _refuse(scope, send, one.why)
        return None

    async def _let_sleep(self, scope: Scope, send: Send) -> None:
        """Answer for who has no key; a check of the engine is told what the other checks are."""
        if scope["path"] in UNCOUNTED:
            return await self._answer_watcher(send)
        return await auth.refuse(scope, send, HTTPStatus.UNAUTHORIZED)

    async def _needs_no_key(self, scope: Scope) -> bool:
        """Whether a replica that runs now would answer it without one: what `settings` knew may be hours old."""
        return auth.is_open(scope) and bool((await self._controller.situation()).running)

    def _may_wake(self, scope: Scope) -> bool:
        """A replica, once there, looks again, and for the admin key on admin routes alone."""
        key = auth.presented_key(scope)
        return bool(key) and (not self._rings or any(ring.name_of(key) is not None for ring in self._rings))

    async def _watch(self) -> None:
        """While requests wait: end those that have waited too long, if still no replica runs."""
        while self._waiting():
            await asyncio.sleep(LOOK_SECONDS)
            now = await self._controller.situation()
            for one in self._waiting():
                # A replica that stops finishes what it has; what came later waits for another one.
                one.may_be_taken = bool(now.running) or (one.may_be_taken and bool(now.stopping))
                if not one.may_be_taken and self._is_late(one, now):
                    one.give_up(TOO_LATE)

    def _is_late(self, one: _Held, now: Situation) -> bool:
        return now.hold_seconds is not None and self._clock() - one.since >= now.hold_seconds

    def _waiting(self) -> list[_Held]:
        return [one for one in self._held if not one.begun and not one.given_up.is_set()]


def _is_preflight(scope: Scope) -> bool:
    """A browser's question, before the request itself, whether its page may send it: it has no key."""
    asks = {"origin", "access-control-request-method"}
    return scope.get("method") == "OPTIONS" and asks <= set(Headers(scope=scope))


async def _refuse(scope: Scope, send: Send, message: str) -> None:
    """Say when to come back, also to a websocket: it is not accepted yet."""

    async def instead_of_websocket(message: Message) -> None:
        await send({**message, "type": f"websocket.{message['type']}"})

    if scope["type"] == "websocket" and DENIAL not in scope.get("extensions", {}):
        return await send({"type": "websocket.close", "code": TRY_AGAIN_LATER})
    body = error_body(scope["path"], HTTPStatus.SERVICE_UNAVAILABLE, message)
    way = readable(scope, send) if scope["type"] == "http" else instead_of_websocket
    await send_json(way, HTTPStatus.SERVICE_UNAVAILABLE, body, {"retry-after": str(RETRY_SECONDS)})
    return None


def in_replica() -> bool:
    """Whether this process is a replica."""
    from ray import serve  # noqa: PLC0415 - this module is also imported where there is no Ray
    from ray.serve.exceptions import RayServeException  # noqa: PLC0415

    try:
        serve.get_replica_context()
    except RayServeException:
        return False
    return True
