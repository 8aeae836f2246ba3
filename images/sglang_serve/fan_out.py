"""`POST /-/admin/<route>`: one of SGLang's admin routes, on every replica.

An admin request through the front reaches one replica, a different one each time, and HAProxy sends it a second time if
the replica goes before it has answered. Here the replica that is asked answers with its headers first, which ends
HAProxy's interest, and then calls all replicas of its deployment, itself among them, by Ray Serve's broadcast.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sglang_serve.auth import KEY_NAME, TRUSTED
from sglang_serve.replies import error_body, readable, send_json

PREFIX: Final = "/-/admin/"
# What has a meaning for each replica by itself; the rest of SGLang's admin routes tie certain engines together. Not
# release_memory_occupation and resume_memory_occupation: the engine ends if it is busy, or was not told the one before
# the other, and no health check may reach it in between.
ROUTES: Final = frozenset(
    {
        "abort_request",
        "configure_logging",
        "continue_generation",
        "flush_cache",
        "freeze_gc",
        "pause_generation",
        "set_internal_state",
        "set_trace_level",
        "slow_down",
        "start_profile",
        "stop_profile",
        "update_weight_version",
        "update_weights_from_disk",
    }
)
Request = Mapping[str, Any]
"""`path` of the native route, `query` and `body` as bytes, `content_type`, `key`: the name of the caller's key."""
Broadcast = Callable[[Request], Awaitable[Sequence[Any]]]
"""Calls all replicas; gives what each said (`perform`), or the exception in its place."""


class FanOutMiddleware:
    """Inside the keys: who gets here has shown the admin key."""

    def __init__(self, app: ASGIApp, broadcast: Broadcast) -> None:
        self._app = app
        self._broadcast = broadcast
        self._running: set[asyncio.Future[Sequence[Any]]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            return await self._app(scope, receive, send)
        send = readable(scope, send)
        route = scope["path"].removeprefix(PREFIX)
        if route not in ROUTES:
            known = ", ".join(sorted(ROUTES))
            message = f"not an admin route for all replicas: {route}. These are: {known}"
            return await send_json(send, HTTPStatus.NOT_FOUND, error_body(scope["path"], 404, message))
        if scope["method"] != "POST":
            error = error_body(scope["path"], 405, "ask with POST: it acts on every replica")
            return await send_json(send, HTTPStatus.METHOD_NOT_ALLOWED, error, {"allow": "POST"})
        return await self._fan_out(f"/{route}", scope, receive, send)

    async def _fan_out(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        content_type = dict(scope["headers"]).get(b"content-type", b"").decode("latin-1")
        body = await _body(receive)
        if body is None:  # half of a request is none, and nobody waits for an answer
            return
        request = {
            "path": path,
            "query": scope["query_string"],
            "body": body,
            "content_type": content_type,
            "key": scope.get(KEY_NAME, ""),
        }
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        # From here on nobody sends it again; and a client that leaves does not stop half of it.
        answers = await asyncio.shield(self._start(request))
        await send({"type": "http.response.body", "body": json.dumps(summary(answers)).encode()})

    def _start(self, request: Request) -> asyncio.Future[Sequence[Any]]:
        """Outside of the request: Ray Serve finds by a context variable what a request has called (2.60), and cancels
        it on every replica when the client leaves."""
        asked = asyncio.get_running_loop().create_task(self._ask(request), context=contextvars.Context())
        self._running.add(asked)
        asked.add_done_callback(self._running.discard)
        return asked

    async def _ask(self, request: Request) -> Sequence[Any]:
        return await self._broadcast(request)


def summary(answers: Sequence[Any]) -> dict[str, Any]:
    """The body of the answer: what each replica said, and how many of them failed."""
    said: list[Mapping[str, Any]] = [
        one if isinstance(one, Mapping) else {"replica": "", "status": 0, "error": str(one)} for one in answers
    ]
    failed = sum(not HTTPStatus.OK <= one["status"] < HTTPStatus.MULTIPLE_CHOICES for one in said)
    return {"asked": len(said), "failed": failed, "replicas": sorted(said, key=lambda one: str(one["replica"]))}


async def perform(app: ASGIApp, replica: str, request: Request) -> dict[str, Any]:
    """What this replica answers to a request of the fan-out: `replica`, `status`, and `body` as JSON or as text."""
    status, parts = 0, []
    given = iter([{"type": "http.request", "body": request["body"], "more_body": False}])

    async def receive() -> Message:
        return next(given, None) or await _never()  # the caller does not leave: whoever waits for that waits on

    async def send(message: Message) -> None:
        nonlocal status
        status = message.get("status", status)
        parts.append(message.get("body", b""))

    await app(_scope(request), receive, send)
    return {"replica": replica, "status": status, "body": _parsed(b"".join(parts))}


def _scope(request: Request) -> Scope:
    """As a server makes it. TRUSTED cannot come from outside: no header becomes a key of the scope."""
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http",
        "method": "POST",
        "path": request["path"],
        "raw_path": request["path"].encode(),
        "root_path": "",
        "query_string": request["query"],
        "headers": [(b"host", b"localhost"), (b"content-type", request["content_type"].encode("latin-1"))],
        "client": None,
        "server": ("localhost", 80),
        TRUSTED: request["key"],
    }


async def _never() -> Message:
    return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]


async def _body(receive: Receive) -> bytes | None:
    """None if the client leaves before it is whole."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")
