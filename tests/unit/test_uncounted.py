"""What of a replica's requests Ray Serve never hears of."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sglang_serve import uncounted
from sglang_serve.asgi import serve_middlewares


class Answers:
    """An app that says its name."""

    def __init__(self, name: bytes) -> None:
        self._name = name
        self.kinds: list[str] = []

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        self.kinds.append(scope["type"])
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": self._name})


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> ASGIApp:
    """A replica's HTTP server, put together as Ray Serve does it (2.60, `_apply_middlewares`)."""
    monkeypatch.setattr("sglang_serve.hold.in_replica", lambda: True)
    monkeypatch.setattr(uncounted, "_apps", [])
    app: ASGIApp = Answers(b"counted")
    for middleware in serve_middlewares():
        app = middleware.cls(app, *middleware.args, **middleware.kwargs)
    return app


def ask(app: ASGIApp, path: str, method: str = "GET") -> str:
    async def run() -> str:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://replica") as client:
            return (await client.request(method, path)).text

    return asyncio.run(run())


@pytest.mark.parametrize("path", ["/health", "/health_generate", "/ready", "/metrics", "/-/replica", "/health?a=1"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_check_or_a_scrape_is_no_request(served: ASGIApp, path: str, method: str) -> None:
    uncounted.answer_with(Answers(b"the app"))
    assert ask(served, path, method) == "the app"


@pytest.mark.parametrize("path", ["/v1/models", "/-/healthz", "/-/routes", "/healthy", "/health/", "/"])
def test_serve_has_all_else(served: ASGIApp, path: str) -> None:
    uncounted.answer_with(Answers(b"the app"))
    assert ask(served, path) == "counted"


def test_so_it_has_where_there_is_no_app(served: ASGIApp) -> None:
    """As in the head's proxy."""
    assert ask(served, "/health") == "counted"


def test_a_websocket_is_serves(served: ASGIApp) -> None:
    app = Answers(b"the app")
    uncounted.answer_with(app)

    async def nothing() -> Message:
        raise AssertionError("nobody reads")

    async def send(_: Message) -> None: ...

    scope = {"type": "websocket", "path": "/health", "headers": []}
    asyncio.run(served(scope, nothing, send))  # type: ignore[arg-type]
    assert app.kinds == []
