"""Health and its HTTP server."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from sglang_operator.app.health import LAG_SECONDS, PASS_SECONDS, LoopLag, trouble
from sglang_operator.app.server import HttpServer


def test_a_calm_process_is_healthy() -> None:
    assert trouble(longest_pass=0.0, loop_lag=0.0) == ""
    assert trouble(longest_pass=PASS_SECONDS, loop_lag=LAG_SECONDS) == ""


def test_a_pass_that_hangs_is_trouble() -> None:
    assert trouble(PASS_SECONDS + 1, 0) == "a pass has been running for 301 s, the limit is 300 s"


def test_a_blocked_loop_is_trouble() -> None:
    assert trouble(0, LAG_SECONDS + 1) == "the event loop was blocked for 11 s, the limit is 10 s"


def test_the_lag_is_what_a_sleep_took_too_long() -> None:
    times = iter([100.0, 101.25, 101.25, 102.25])
    naps = []

    async def sleep(seconds: float) -> None:
        naps.append((seconds, lag.seconds))
        if len(naps) == 3:
            raise asyncio.CancelledError

    lag = LoopLag(clock=lambda: next(times, 0.0), sleep=sleep)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(lag.measure())
    assert naps == [(1, 0.0), (1, 0.25), (1, 0.0)]


def test_the_server_tells_the_kubelet_what_is_wrong() -> None:
    found = [""]

    async def scenario() -> list[tuple[int, str]]:
        server = HttpServer(0, trouble=lambda: found[0], metrics=lambda: b"sglang_operator_leader 1.0\n")
        port = await server.start()
        try:
            async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
                answers = [await ask(session, path) for path in ("/healthz", "/readyz", "/metrics")]
                found[0] = "a pass hangs"
                return [*answers, await ask(session, "/healthz"), await ask(session, "/readyz")]
        finally:
            await server.stop()

    assert asyncio.run(scenario()) == [
        (200, "ok\n"),
        (200, "ok\n"),
        (200, "sglang_operator_leader 1.0\n"),
        (503, "a pass hangs\n"),
        (503, "a pass hangs\n"),
    ]


async def ask(session: aiohttp.ClientSession, path: str) -> tuple[int, str]:
    async with session.get(path) as answer:
        return answer.status, await answer.text()
