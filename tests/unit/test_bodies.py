"""What a request may cost before it is whole: without a key, in small pieces, and when its client goes away."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from sglang_serve import limits
from sglang_serve.args import BODY_SECONDS, HAPROXY_RETRY_ON
from sglang_serve.limits import OPEN_BYTES, BodyLimitMiddleware

LIMIT = 64 * 2**20
OPEN = [("GET", "/health"), ("POST", "/health_generate"), ("POST", "/metrics/"), ("OPTIONS", "/v1/chat/completions")]
MIB = 2**20


def scope(method: str = "POST", path: str = "/v1/completions", length: int | None = None) -> Scope:
    header = (b"transfer-encoding", b"chunked") if length is None else (b"content-length", str(length).encode())
    return {"type": "http", "method": method, "path": path, "headers": [header]}


async def answers(scope: Scope, receive: Receive, send: Send) -> None:
    await Response(status_code=405)(scope, receive, send)


def ask(
    asked: Scope, receive: Receive, app: Callable[[Scope, Receive, Send], Awaitable[None]] = answers, limit: int = LIMIT
) -> list[Message]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(BodyLimitMiddleware(app, lambda: limit)(asked, receive, send))
    return sent


def pieces(size: int, count: int, taken: list[int]) -> Receive:
    """A body of `count` pieces; `taken` has an entry for each that was asked for."""

    async def receive() -> Message:
        taken.append(size)
        return {"type": "http.request", "body": bytes(bytearray(size)), "more_body": len(taken) < count}

    return receive


@pytest.mark.parametrize(("method", "path"), OPEN)
def test_who_shows_no_key_keeps_no_memory(method: str, path: str) -> None:
    taken: list[int] = []
    sent = ask(scope(method, path, length=OPEN_BYTES + 1), pieces(OPEN_BYTES, 10, taken))
    assert (sent[0]["status"], taken) == (413, [])
    assert f"{OPEN_BYTES} bytes" in json.loads(sent[1]["body"])["message"]
    assert ask(scope(method, path), pieces(OPEN_BYTES, 10, taken))[0]["status"] == 413
    assert len(taken) == 2


@pytest.mark.parametrize(("method", "path"), OPEN)
def test_a_small_body_where_none_is_needed_gets_what_native_answers(method: str, path: str) -> None:
    assert ask(scope(method, path, length=OPEN_BYTES), pieces(OPEN_BYTES, 1, []))[0]["status"] == 405


def test_the_endpoints_own_limit_counts_where_it_is_lower() -> None:
    sent = ask(scope("POST", "/health", length=2000), pieces(2000, 1, []), limit=1024)
    assert sent[0]["status"] == 413
    assert "maxBodyBytes" in json.loads(sent[1]["body"])["message"]


def test_a_body_costs_its_bytes_in_however_many_pieces_it_comes() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert len((await receive())["body"]) == 200_000

    tracemalloc.start()
    try:
        ask(scope(), pieces(1, 200_000, Taken()), app)
        assert tracemalloc.get_traced_memory()[1] < 2 * MIB
    finally:
        tracemalloc.stop()


class Taken(list[Any]):
    """Counts, and keeps nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._count = 0

    def append(self, one: Any) -> None:
        self._count += 1

    def __len__(self) -> int:
        return self._count


@pytest.mark.parametrize("length", [None, 400_000])
def test_who_goes_away_in_the_middle_of_a_body_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, length: int | None
) -> None:
    """Behind HAProxy a replica does not see that the client is gone."""
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.05)
    came: list[Message] = [{"type": "http.request", "body": b"x" * 300_000, "more_body": True}]

    async def receive() -> Message:
        if not came:
            await asyncio.Event().wait()  # for ever
        return came.pop()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("half of a request is none")

    sent = ask(scope(length=length), receive, app)
    assert sent[0]["status"] == 408
    assert json.loads(sent[1]["body"])["code"] == 408


def test_a_slow_body_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts is that something comes."""
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.2)
    quick = pieces(10, 4, [])

    async def receive() -> Message:
        await asyncio.sleep(0.1)
        return await quick()

    assert ask(scope(), receive)[0]["status"] == 405


def test_a_replica_waits_as_long_as_the_front() -> None:
    assert f"timeout http-request {BODY_SECONDS}s" in HAPROXY_RETRY_ON.splitlines()
