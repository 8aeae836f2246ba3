"""What a replica counts as in flight, and how often its engine is asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from sglang_serve.report import FRESH_SECONDS, PATH, Replica, ReportMiddleware
from sglang_serve.request_log import Origin


class Clock:
    """A time that passes when it is told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


async def nothing() -> Message:
    raise AssertionError("nobody reads")


async def no_probe() -> None:
    raise AssertionError("nobody asked for it")


def report(
    app: Callable[[Scope, Receive, Send], Awaitable[None]],
    probe: Callable[[], Awaitable[None]] = no_probe,
    clock: Clock | None = None,
) -> ReportMiddleware:
    replica = Replica(Origin("e", "r", "1"), "10.0.0.7", lambda: "c", probe)
    return ReportMiddleware(app, replica, clock or Clock())


async def call(
    middleware: ReportMiddleware, path: str, kind: str = "http", query: bytes = b"", **headers: str
) -> list[Any]:
    sent: list[Any] = []

    async def send(message: Message) -> None:
        sent.append(message)

    told = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    await middleware({"type": kind, "path": path, "query_string": query, "headers": told}, nothing, send)
    return sent


async def said(middleware: ReportMiddleware) -> dict[str, Any]:
    start, body = await call(middleware, PATH)
    assert start["status"] == 200
    told: dict[str, Any] = json.loads(body["body"])
    return told


@pytest.mark.parametrize(
    ("kind", "path", "counted"),
    [("http", "/v1/models", 1), ("websocket", "/v1/realtime", 1), ("http", "/health", 0), ("lifespan", "", 0)],
)
def test_a_request_is_in_flight_until_its_answer_is_over(kind: str, path: str, counted: int) -> None:
    async def run() -> None:
        end, clock = asyncio.Event(), Clock()

        async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
            await end.wait()

        middleware = report(app, clock=clock)
        running = asyncio.create_task(call(middleware, path, kind))
        await asyncio.sleep(0)
        assert (await said(middleware))["in_flight"] == counted
        end.set()
        await running
        clock.now += 3
        told = await said(middleware)
        assert (told["in_flight"], told["idle_seconds"]) == (0, 3.0)

    asyncio.run(run())


def test_a_request_that_breaks_is_in_flight_no_more() -> None:
    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise RuntimeError("broken")

    async def run() -> None:
        middleware = report(app)
        with pytest.raises(RuntimeError, match="broken"):
            await call(middleware, "/generate")
        assert (await said(middleware))["in_flight"] == 0

    asyncio.run(run())


def test_many_that_ask_at_once_share_one_probe_and_its_answer_grows_old() -> None:
    async def run() -> None:
        asked, clock = 0, Clock()

        async def probe() -> None:
            nonlocal asked
            asked += 1
            await asyncio.sleep(0)

        middleware = report(no_app, probe, clock)

        async def ask(times: int) -> list[int]:
            calls = (call(middleware, PATH, query=b"generate=1") for _ in range(times))
            return [sent[0]["status"] for sent in await asyncio.gather(*calls)]

        assert await ask(9) == [200] * 9
        assert asked == 1
        clock.now += FRESH_SECONDS
        assert await ask(1) == [200]
        assert asked == 2

    asyncio.run(run())


def test_since_when_the_engine_has_answered_probes_is_told() -> None:
    async def run() -> None:
        clock, engine = Clock(), {"works": False}

        async def probe() -> None:
            if not engine["works"]:
                raise RuntimeError("not yet")

        middleware = report(no_app, probe, clock)
        await call(middleware, PATH, query=b"generate=1")
        assert "answered_seconds" not in await said(middleware)
        engine["works"] = True
        for expected in (0.0, 7.0):
            _, body = await call(middleware, PATH, query=b"generate=1")
            assert json.loads(body["body"])["answered_seconds"] == expected
            clock.now += 7
        assert (await said(middleware))["answered_seconds"] == 14.0

    asyncio.run(run())


def test_adapters_are_told_of_where_there_can_be_any() -> None:
    async def run() -> None:
        rows = [{"name": "sql", "state": "Loaded", "message": ""}]
        with_room = Replica(Origin("e", "r", "1"), "10.0.0.7", lambda: "c", no_probe, lambda: rows)
        assert (await said(ReportMiddleware(no_app, with_room)))["adapters"] == rows
        assert "adapters" not in await said(report(no_app))

    asyncio.run(run())


def test_the_commit_is_told_of_where_there_is_one() -> None:
    async def run() -> None:
        of_hub = Replica(Origin("e", "r", "1"), "10.0.0.7", lambda: "c", no_probe, commit="1" * 40)
        assert (await said(ReportMiddleware(no_app, of_hub)))["commit"] == "1" * 40
        assert "commit" not in await said(report(no_app))

    asyncio.run(run())


async def no_app(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise AssertionError("not the app's")


@pytest.mark.parametrize("header", [{"content_length": "9"}, {"transfer_encoding": "chunked"}])
def test_a_body_is_refused(header: dict[str, str]) -> None:
    """Serve would keep all that comes while the engine is asked."""

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None: ...

    start, _ = asyncio.run(call(report(app), PATH, query=b"generate=1", **header))
    assert start["status"] == 413
    start, _ = asyncio.run(call(report(app), PATH, content_length="0"))
    assert start["status"] == 200
