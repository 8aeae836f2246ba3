"""An admin request for all replicas: who may, what is passed on, what is reported, and what is never run twice."""

from __future__ import annotations

import asyncio
import contextvars
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request as Asked
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Message

from sglang_serve.auth import AuthMiddleware, Policy
from sglang_serve.fan_out import PREFIX, ROUTES, FanOutMiddleware, Request, perform
from sglang_serve.keys import KeyRing

ADMIN = {"Authorization": "Bearer the-admin-key"}


class Deployment:
    """Some replicas with one native admin route; `broken` ones raise, as a call to a dead actor does."""

    def __init__(self, tmp_path: Path, names: Sequence[str] = ("a", "b"), broken: Sequence[str] = ()) -> None:
        key = tmp_path / "admin"
        key.write_text("the-admin-key")
        self.seen: list[tuple[str, str, bytes]] = []
        self.broken = broken
        self.policy = Policy(is_admin=lambda scope: True, admin=KeyRing(key))
        self.replicas = {name: self.app(name) for name in names}

    def app(self, name: str) -> Starlette:
        async def configure(asked: Asked) -> Response:
            self.seen.append((name, asked.url.query, await asked.body()))
            return JSONResponse({"level": "debug"})

        async def flush(_: Asked) -> Response:
            return PlainTextResponse("busy", status_code=400 if name == "b" else 200)

        app = Starlette(
            routes=[
                Route("/configure_logging", configure, methods=["POST"]),
                Route("/flush_cache", flush, methods=["GET", "POST"]),
            ]
        )
        app.add_middleware(FanOutMiddleware, broadcast=self.broadcast)
        app.add_middleware(AuthMiddleware, policy=self.policy)
        return app

    async def broadcast(self, request: Request) -> Sequence[Any]:
        calls = [perform(app, name, request) for name, app in self.replicas.items() if name not in self.broken]
        return [*await asyncio.gather(*calls), *(RuntimeError(f"{name} has died") for name in self.broken)]

    async def ask(self, route: str, method: str = "POST", **options: Any) -> httpx.Response:
        transport = httpx.ASGITransport(self.replicas["a"])
        async with httpx.AsyncClient(transport=transport, base_url="http://front") as client:
            return await client.request(method, f"{PREFIX}{route}", **{"headers": ADMIN, **options})


def test_every_replica_gets_it_once_with_query_and_body(tmp_path: Path) -> None:
    made = Deployment(tmp_path)
    answer = asyncio.run(made.ask("configure_logging?now=1", json={"log_requests": True}))
    assert answer.status_code == 200
    assert answer.json() == {
        "asked": 2,
        "failed": 0,
        "replicas": [{"replica": name, "status": 200, "body": {"level": "debug"}} for name in ("a", "b")],
    }
    assert sorted(made.seen) == [(name, "now=1", b'{"log_requests":true}') for name in ("a", "b")]


def test_who_failed_is_said(tmp_path: Path) -> None:
    made = Deployment(tmp_path, names=("a", "b", "c"), broken=("c",))
    said = asyncio.run(made.ask("flush_cache")).json()
    assert (said["asked"], said["failed"]) == (3, 2)
    assert said["replicas"][0] == {"replica": "", "status": 0, "error": "c has died"}
    assert said["replicas"][2] == {"replica": "b", "status": 400, "body": "busy"}


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}])
def test_it_needs_the_admin_key(tmp_path: Path, headers: dict[str, str]) -> None:
    made = Deployment(tmp_path)
    assert asyncio.run(made.ask("flush_cache", headers=headers)).status_code == 401


def test_without_an_admin_key_it_is_closed(tmp_path: Path) -> None:
    made = Deployment(tmp_path)
    made.policy = Policy(is_admin=lambda scope: True)
    made.replicas["a"] = made.app("a")
    assert asyncio.run(made.ask("flush_cache")).status_code == 403


def test_others_routes_and_methods_are_refused(tmp_path: Path) -> None:
    made = Deployment(tmp_path)
    unknown = asyncio.run(made.ask("init_weights_update_group"))
    assert unknown.status_code == 404
    assert all(route in unknown.text for route in ROUTES)
    for method in ("GET", "OPTIONS"):  # OPTIONS needs no key
        refused = asyncio.run(made.ask("flush_cache", method))
        assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    assert made.seen == []


def test_headers_come_before_anything_is_done(tmp_path: Path) -> None:
    """HAProxy sends a request again only while it has seen no header of the answer."""
    order: list[str] = []

    async def broadcast(_: Request) -> Sequence[Any]:
        order.append("run")
        return []

    async def send(message: Message) -> None:
        order.append(message["type"])

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    scope = {"type": "http", "method": "POST", "path": f"{PREFIX}flush_cache", "query_string": b"", "headers": []}
    asyncio.run(FanOutMiddleware(Starlette(), broadcast)(scope, receive, send))
    assert order == ["http.response.start", "run", "http.response.body"]


def test_half_a_request_is_not_carried_out(tmp_path: Path) -> None:
    told: list[object] = []
    messages: list[Message] = [
        {"type": "http.request", "body": b"{", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def broadcast(request: Request) -> Sequence[Any]:
        told.append(request)
        return []

    async def send(message: Message) -> None:
        told.append(message)

    async def receive() -> Message:
        return messages.pop(0)

    scope = {"type": "http", "method": "POST", "path": f"{PREFIX}flush_cache", "query_string": b"", "headers": []}
    asyncio.run(FanOutMiddleware(Starlette(), broadcast)(scope, receive, send))
    assert told == []


OF_REQUEST = contextvars.ContextVar("of_request", default="")


def test_a_client_that_leaves_does_not_stop_it(tmp_path: Path) -> None:
    """Nor does Ray Serve, which would find by a context variable what the request has called."""
    done = asyncio.Event()

    async def broadcast(_: Request) -> Sequence[Any]:
        assert OF_REQUEST.get() == ""
        await asyncio.sleep(0.05)
        done.set()
        return []

    async def leave() -> None:
        async def send(_: Message) -> None: ...

        async def receive() -> Message:
            return {"type": "http.request", "body": b""}

        scope = {"type": "http", "method": "POST", "path": f"{PREFIX}flush_cache", "query_string": b"", "headers": []}
        app = FanOutMiddleware(Starlette(), broadcast)
        OF_REQUEST.set("one that Serve tracks")
        request = asyncio.ensure_future(app(scope, receive, send))
        await asyncio.sleep(0.01)
        request.cancel()
        await asyncio.wait_for(done.wait(), 5)

    asyncio.run(leave())


def test_a_scope_from_outside_is_never_trusted(tmp_path: Path) -> None:
    """What lets a request in without its key is a key of the scope, and no header becomes one."""
    made = Deployment(tmp_path)
    headers = {"sglang_serve.trusted": "admin", "x-sglang_serve.trusted": "admin"}
    assert asyncio.run(made.ask("flush_cache", headers=headers)).status_code == 401
    assert json.loads(asyncio.run(made.ask("flush_cache")).text)["asked"] == 2
