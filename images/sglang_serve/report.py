"""`GET /-/replica`: what one replica says of itself to whoever runs the cluster, through the front of any pod.

Open like SGLang's /health, and like it no part of the request log: it has nothing secret, and the probe behind
`?generate=1` runs at most once a second whatever comes in.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from sglang_serve.limits import has_body
from sglang_serve.replies import send_json
from sglang_serve.request_log import Origin

PATH = "/-/replica"
UNCOUNTED = frozenset({PATH, "/health", "/health_generate", "/ready", "/metrics"})
FRESH_SECONDS = 1.0  # an answer of the engine counts so long


@dataclass(frozen=True)
class Replica:
    """What does not change, and how to ask for the rest."""

    origin: Origin
    node_ip: str
    config_id: Callable[[], str]
    probe: Callable[[], Awaitable[None]]
    """Returns when the engine lives and answers; raises if it does not."""
    adapters: Callable[[], Sequence[Mapping[str, str]]] | None = None
    """One row for each adapter; None if the engine takes none."""
    commit: str = ""
    """Of the hub's repository; "" if the model is from elsewhere."""


class ReportMiddleware:
    """Counts requests, and answers for the replica. Outside of all that refuse: what they do is in flight too."""

    def __init__(self, app: ASGIApp, replica: Replica, clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._replica = replica
        self._clock = clock
        self._in_flight = 0
        self._idle_since = clock()
        self._asked: asyncio.Task[None] | None = None
        self._answered_at = -FRESH_SECONDS
        self._answered_first: float | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http" and scope["path"] == PATH:
            return await (self._refuse(send) if has_body(scope) else self._report(scope, send))
        if scope["type"] not in ("http", "websocket") or scope["path"] in UNCOUNTED:
            return await self._app(scope, receive, send)
        return await self._count(scope, receive, send)

    async def _refuse(self, send: Send) -> None:
        """Outside of the body limit: Serve would keep all that comes while the engine is probed."""
        await send_json(send, 413, {"error": f"{PATH} takes no body"})

    async def _count(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._in_flight += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._in_flight -= 1
            self._idle_since = self._clock()

    async def _report(self, scope: Scope, send: Send) -> None:
        try:
            if b"generate=1" in scope["query_string"]:
                await self._generate()
        except Exception as error:  # noqa: BLE001 - whatever the engine's failure is, it is the answer
            return await send_json(send, 503, {**self._said(), "error": f"{type(error).__name__}: {error}"})
        return await send_json(send, 200, self._said())

    def _said(self) -> dict[str, object]:
        origin = self._replica.origin
        said: dict[str, object] = {
            "endpoint": origin.endpoint,
            "revision": origin.revision,
            "replica": origin.replica,
            "node_ip": self._replica.node_ip,
            "config_id": self._replica.config_id(),
            "in_flight": self._in_flight,
            "idle_seconds": 0.0 if self._in_flight else self._since(self._idle_since),
        }
        if self._answered_first is not None:
            said["answered_seconds"] = self._since(self._answered_first)
        if self._replica.commit:
            said["commit"] = self._replica.commit
        if self._replica.adapters:
            said["adapters"] = list(self._replica.adapters())
        return said

    def _since(self, then: float) -> float:
        return round(self._clock() - then, 3)

    async def _generate(self) -> None:
        """One probe for all that ask at the same time, and for a second after it."""
        if self._clock() - self._answered_at < FRESH_SECONDS:
            return
        if self._asked is None:
            self._asked = asyncio.ensure_future(self._replica.probe())
            self._asked.add_done_callback(self._note)
        await asyncio.shield(self._asked)

    def _note(self, asked: asyncio.Task[None]) -> None:
        self._asked = None
        if not asked.cancelled() and asked.exception() is None:
            self._answered_at = self._clock()
            if self._answered_first is None:
                self._answered_first = self._answered_at
