"""The clients that count what events on a cluster lose see each way in which an answer can be lost."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest
from aiohttp import web
from cluster import load as loading
from cluster.load import Count, Load
from unit.web_apps import listening

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
DONE: Final = b"data: [DONE]\n\n"


def token(finish_reason: str | None) -> bytes:
    chunk = {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": finish_reason}]}
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


def stream(*lines: bytes, then: Callable[[web.Request], Awaitable[None]] | None = None) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for line in lines:
            await response.write(line)
        if then:
            await then(request)
        return response

    return answer


async def busy(_: web.Request) -> web.StreamResponse:
    return web.json_response({"error": "no replica"}, status=503)


async def reset(request: web.Request) -> None:
    assert request.transport is not None
    request.transport.abort()


async def reset_at_once(request: web.Request) -> web.StreamResponse:
    await reset(request)
    return web.Response()


async def silence(_: web.Request) -> None:
    await asyncio.sleep(60)


GOOD: Final = stream(token(None), token("length"), DONE)
BAD: Final[dict[str, tuple[Answer, str]]] = {
    "another status": (busy, "status 503"),
    "reset before the answer": (reset_at_once, "Disconnected"),
    "reset within the stream": (stream(token(None), then=reset), "Error"),
    "silence within the stream": (stream(token(None), then=silence), "Timeout"),
    "no [DONE]": (stream(token(None), token("length")), "finish_reason True, [DONE] False"),
    "no finish_reason": (stream(token(None), DONE), "finish_reason False, [DONE] True"),
    "aborted by the engine": (stream(token(None), token("abort"), DONE), "finish_reason False"),
    "an error in the stream": (stream(token(None), b'data: {"error": {"code": 500}}\n\n', DONE), "finish_reason False"),
    "an answer without a stream": (stream(b"{}"), "finish_reason False, [DONE] False"),
}


def counted(*answers: Answer, keep: bool = False) -> Count:
    """What a client's requests come to, one for each answer."""
    left = list(answers)

    async def next_answer(request: web.Request) -> web.StreamResponse:
        assert (await request.json())["stream"] is True
        return await left.pop(0)(request)

    async def main() -> Count:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", next_answer)
        async with listening(app) as port:
            load = Load(f"http://127.0.0.1:{port}", {})
            async with load._session(keep=keep) as session:
                for number in range(len(answers)):
                    await load._count(f"client {number}", load._ask(session, "hello", 2))
        return load.count

    return asyncio.run(main())


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "SILENT_SECONDS", 0.5)


def test_a_whole_answer_is_no_loss() -> None:
    for keep in (False, True):
        count = counted(GOOD, GOOD, keep=keep)
        assert (count.requests, count.lost) == (2, [])


@pytest.mark.parametrize("what", BAD)
def test_each_loss_is_counted_and_said(what: str) -> None:
    answer, said = BAD[what]
    count = counted(GOOD, answer, GOOD)
    (lost,) = count.lost
    assert (count.requests, lost.client) == (3, "client 1")
    assert said in lost.what


def test_all_of_them_are_counted() -> None:
    bad: list[Any] = [answer for answer, _ in BAD.values()]
    count = counted(GOOD, *bad, GOOD)
    assert str(count).startswith(f"{len(bad)} of {len(bad) + 2} requests lost")


def test_nobody_who_listens_is_a_loss() -> None:
    async def main() -> Count:
        load = Load("http://127.0.0.1:1", {})
        async with load._session(keep=False) as session:
            await load._count("client", load._ask(session, "hello", 2))
        return load.count

    (lost,) = asyncio.run(main()).lost
    assert "Cannot connect" in lost.what


@pytest.mark.parametrize("still", [0.0, 0.3])
def test_a_client_that_stood_still_says_so(monkeypatch: pytest.MonkeyPatch, still: float) -> None:
    """As when the whole machine does: its timers run out, and the server is not to blame."""
    monkeypatch.setattr(loading, "BEAT_SECONDS", 0.01)
    monkeypatch.setattr(loading, "STILL_SECONDS", 0.2)

    async def main() -> Count:
        load = Load("http://127.0.0.1:1", {})
        beating = asyncio.ensure_future(load._beat())

        async def request() -> str:
            await asyncio.sleep(0.05)
            time.sleep(still)  # noqa: ASYNC251 - the whole process
            await asyncio.sleep(0.05)
            return "lost"

        await load._count("client", request())
        beating.cancel()
        return load.count

    (lost,) = asyncio.run(main()).lost
    assert lost.what == ("lost; this client itself stood still for 0.3 s meanwhile" if still else "lost")
