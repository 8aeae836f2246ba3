"""What is made of the answers of pods: anything may run there, and many are asked at once."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from unit.web_apps import listening

from sglang_operator.cluster import probe as probing
from sglang_operator.cluster.probe import Answers, Held, Prober, Report
from sglang_operator.lifecycle.observed import Probe

RIGHT = {"replica": "r", "node_ip": "127.0.0.1", "config_id": "c", "in_flight": 0}
HELD = {"held": True, "in_flight": 2, "idle_seconds": 0.0, "target": 1}
HERE = ("127.0.0.1",)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Question = Callable[[Prober], Awaitable[Any]]


def asked(handler: Handler, question: Question) -> Any:
    """What `question` comes to where `handler` answers."""

    async def main() -> Any:
        app = web.Application()
        app.router.add_get("/{any:.*}", handler)
        async with listening(app) as port:
            prober = Prober(port)
            try:
                return await question(prober)
            finally:
                await prober.close()

    return asyncio.run(main())


def saying(body: bytes, status: int = 200, **headers: str) -> Handler:
    async def answer(_request: web.Request) -> web.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, body=body, content_type="application/json", headers=named)

    return answer


async def look(prober: Prober) -> Answers:
    return await prober.ask(HERE, generate=False)


async def look_at_head(prober: Prober) -> Held | None:
    return await prober.ask_head(HERE[0])


ODD: dict[str, bytes] = {
    "a list": b"[]",
    "nothing": b"null",
    "a number": b"7",
    "brackets without an end": b"[" * 500_000,
    "a field of another kind": json.dumps({**RIGHT, "in_flight": None}).encode(),
    "a number without an end": json.dumps({**RIGHT, "in_flight": float("inf")}).encode(),
    "rows that are none": json.dumps({**RIGHT, "adapters": [[]]}).encode(),
    "too long": json.dumps({**RIGHT, "more": "x" * probing.LONGEST}).encode(),
}


@pytest.mark.parametrize("what", ODD)
def test_an_odd_answer_is_wrong_and_ends_no_pass(what: str) -> None:
    found = asked(saying(ODD[what]), look)
    assert found.probe is Probe.WRONG
    assert len(found.error) < 1000


@pytest.mark.parametrize("what", [*ODD, "a target that is none"])
def test_an_odd_head_holds_nothing(what: str) -> None:
    body = ODD.get(what, json.dumps({**HELD, "target": "x"}).encode())
    assert asked(saying(body, 503), look_at_head) is None


def test_what_is_right_is_understood() -> None:
    assert asked(saying(json.dumps(RIGHT).encode()), look).reports == (Report("r", "127.0.0.1", "c", 0, 0.0),)
    assert asked(saying(json.dumps(HELD).encode(), 503), look_at_head) == Held(2, 0.0, 1)


def test_a_packed_answer_is_not_unpacked() -> None:
    """A megabyte of it may become a gigabyte."""

    async def main(prober: Prober) -> Answers:
        assert not prober._connections().auto_decompress
        return await look(prober)

    found = asked(saying(gzip.compress(json.dumps(RIGHT).encode()), Content_Encoding="gzip"), main)
    assert (found.probe, found.error) == (Probe.WRONG, "ValueError: an answer in the encoding gzip")


def test_nobody_is_sent_elsewhere() -> None:
    seen: list[str] = []

    async def send_on(request: web.Request) -> web.Response:
        seen.append(request.path)
        return web.json_response(RIGHT) if request.path == "/secret" else web.Response(status=302, headers=where)

    where = {"Location": "/secret"}
    assert asked(send_on, look).probe is Probe.WRONG
    assert seen == [probing.ROUTE]


def test_engines_that_generate_keep_no_look_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "LOOK_SECONDS", 1.0)
    many = 2 * probing.AT_ONCE

    async def generate_slowly(request: web.Request) -> web.Response:
        if "generate" in request.query:
            await asyncio.sleep(60)
        return web.json_response(RIGHT)

    async def main(prober: Prober) -> Answers:
        busy = asyncio.create_task(prober.ask(HERE * many, generate=True))
        await asyncio.sleep(0.2)
        async with asyncio.timeout(10):
            found = await look(prober)
        busy.cancel()
        return found

    assert asked(generate_slowly, main).probe is Probe.ANSWERED


def test_a_turn_that_is_waited_for_is_no_wrong_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last of them comes after twice the limit, and is answered within a third of it."""
    monkeypatch.setattr(probing, "LOOK_SECONDS", 1.5)
    monkeypatch.setattr(probing, "AT_ONCE", 2)

    async def answer(_request: web.Request) -> web.Response:
        await asyncio.sleep(0.5)
        return web.json_response(RIGHT)

    async def main(prober: Prober) -> list[Report | Answers]:
        return await prober._ask_each(HERE * 12, False)

    assert {type(said) for said in asked(answer, main)} == {Report}


@pytest.mark.parametrize(
    ("told", "is_own"),
    [
        ({"endpoint": "qwen3", "revision": "qwen3-a"}, True),
        ({}, True),  # an image from before it said so
        ({"endpoint": "qwen3", "revision": "qwen3-b"}, False),
        ({"endpoint": "other", "revision": "qwen3-a"}, False),
    ],
)
def test_a_replica_of_another_revision_does_not_answer_for_this_one(told: dict[str, str], is_own: bool) -> None:
    found = asked(saying(json.dumps({**RIGHT, **told}).encode()), look).only_of("qwen3", "qwen3-a")
    assert (found.probe is Probe.ANSWERED) is is_own
    assert len(found.reports) == is_own
    assert is_own or told["revision"] in found.error
