"""Headers that Ray Serve would end at before our app is called."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sglang_serve.asgi import serve_middlewares
from sglang_serve.headers import READ_BY_SERVE

LATIN = b"J\xfcrgen"


def passed(monkeypatch: pytest.MonkeyPatch, *headers: tuple[bytes, bytes], kind: str = "http") -> list[bytes]:
    """Names of the headers that Ray Serve is given."""
    seen: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend(name for name, _ in scope["headers"])

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        raise AssertionError(message)

    monkeypatch.setattr("sglang_serve.hold.in_replica", lambda: True)
    around: ASGIApp = app
    for one in serve_middlewares():  # as ray.serve does it: the last one is the outermost
        around = one.cls(around, *one.args, **one.kwargs)

    async def ask() -> None:
        await around({"type": kind, "path": "/v1/models", "headers": list(headers)}, receive, send)

    asyncio.run(ask())
    return seen


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize(
    "name",
    [b"x-request-id", b"x-session-id", b"x_session_id", b"x-request-timeout-seconds", b"serve-multiplexed-model-id"],
)
def test_what_serve_cannot_decode_it_does_not_see(monkeypatch: pytest.MonkeyPatch, name: bytes, kind: str) -> None:
    """Natively nobody reads these, and Ray Serve answers 500."""
    assert passed(monkeypatch, (b"host", b"h"), (name, LATIN), kind=kind) == [b"host"]


def test_what_it_can_and_what_it_does_not_read_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [(name.encode(), "Jürgen".encode()) for name in sorted(READ_BY_SERVE)]
    assert passed(monkeypatch, *ids, (b"user-agent", LATIN)) == [*(name for name, _ in ids), b"user-agent"]
