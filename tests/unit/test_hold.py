"""Requests while no replica runs: held until one does, and given up in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest
from starlette.types import Receive, Scope, Send
from unit.held_head import ASLEEP, Head, Proxy, ask, run

from sglang_serve import hold
from sglang_serve import situation as situations
from sglang_serve.situation import Situation


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(situations, "ANSWER_SECONDS", 0.005)


def test_a_held_request_is_answered_when_a_replica_is_up() -> None:
    async def work(head: Head, client: httpx.AsyncClient) -> None:
        asked = await ask(head, client)
        head.now = 9
        await asyncio.sleep(0.02)
        head.proxy.up.set()
        assert (await asked).status_code == 200

    run(work)


def test_one_that_waits_too_long_gets_503_and_leaves_the_queue() -> None:
    async def work(head: Head, client: httpx.AsyncClient) -> None:
        asked = await ask(head, client)
        head.now = 10
        answer = await asked
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
        assert answer.json()["code"] == 503
        assert "spec.scaling.holdSeconds" in answer.json()["message"]
        assert head.proxy.left == 1

    run(work)


@pytest.mark.parametrize(
    "situation",
    [
        replace(ASLEEP, running=1),
        replace(ASLEEP, hold_seconds=None),
    ],
    ids=["a replica works on it", "no limit"],
)
def test_it_goes_on_waiting(situation: Situation) -> None:
    async def work(head: Head, client: httpx.AsyncClient) -> None:
        asked = await ask(head, client)
        head.now = 1000
        await asyncio.sleep(0.02)
        assert not asked.done()
        head.proxy.up.set()
        assert (await asked).status_code == 200

    run(work, situation)


def test_a_replica_that_stops_finishes_what_it_has_and_takes_nothing_new() -> None:
    """Its node is drained: a request that it works on has waited for its answer alone, a later one for a replica."""

    async def work(head: Head, client: httpx.AsyncClient) -> None:
        taken = await ask(head, client)
        head.looked.clear()
        await head.looked.wait()
        head.situation = replace(ASLEEP, target=1, stopping=1)
        await asyncio.sleep(0.02)
        later = await ask(head, client)
        head.now = 1000
        assert (await later).status_code == 503
        assert not taken.done()
        head.proxy.up.set()
        assert (await taken).status_code == 200

    run(work, replace(ASLEEP, running=1))


def test_one_that_a_stopped_replica_did_not_answer_is_given_up_when_it_is_gone() -> None:
    async def work(head: Head, client: httpx.AsyncClient) -> None:
        taken = await ask(head, client)
        head.looked.clear()
        await head.looked.wait()
        head.situation, head.now = replace(ASLEEP, target=1, stopping=1), 1000
        for _ in range(3):  # the second look proves that the first was worked off
            head.looked.clear()
            await head.looked.wait()
        assert not taken.done()
        head.situation = replace(ASLEEP, target=1)
        assert (await taken).status_code == 503

    run(work, replace(ASLEEP, running=1))


def test_it_waits_for_nobody_when_the_controller_has_stopped_to_answer() -> None:
    async def work(head: Head, client: httpx.AsyncClient) -> None:
        asked = await ask(head, client)
        head.is_silent = True
        head.now = 9.9
        await asyncio.sleep(0.03)
        assert not asked.done()
        head.now = 10
        assert (await asked).status_code == 503
        assert (await client.get("/-/replica")).json()["target"] is None

    run(work)


def test_a_replica_is_believed_to_run_as_long_as_the_controller_is_not_silent_for_too_long() -> None:
    async def work(head: Head, client: httpx.AsyncClient) -> None:
        asked = await ask(head, client)
        head.now = 15
        head.looked.clear()
        await head.looked.wait()
        head.is_silent = True
        head.now = 24
        await asyncio.sleep(0.03)
        assert not asked.done()
        head.now = 25
        assert (await asked).status_code == 503

    run(work, replace(ASLEEP, running=1))


@pytest.mark.parametrize("is_silent", [True, False], ids=["no answer", "our deployment is not there yet"])
def test_before_anything_is_known_the_default_counts(is_silent: bool) -> None:
    async def work(head: Head, client: httpx.AsyncClient) -> None:
        head.is_silent, head.situation = is_silent, None
        asked = await ask(head, client)
        head.now = 599
        await asyncio.sleep(0.03)
        assert not asked.done()
        head.now = 600
        assert (await asked).status_code == 503

    run(work)


def test_no_more_than_so_many_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold, "MOST_HELD", 2)

    async def work(head: Head, client: httpx.AsyncClient) -> None:
        held = [await ask(head, client) for _ in range(2)]
        refused = await client.post("/v1/chat/completions", json={})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "30")
        assert refused.json()["type"] == "Service Unavailable"
        head.proxy.up.set()
        assert [(await one).status_code for one in held] == [200, 200]
        assert (await client.post("/v1/chat/completions", json={})).status_code == 200

    run(work)


def test_bodies_together_are_no_larger_than_so_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold, "MOST_HELD_BYTES", 1500)

    async def work(head: Head, client: httpx.AsyncClient) -> None:
        held = await ask(head, client, b"x" * 1000)
        refused = await client.post("/v1/chat/completions", content=b"x" * 501)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "30")
        assert "too large together" in refused.json()["message"]
        assert head.proxy.left == 1, "out of the queue"
        another = await ask(head, client, b"x" * 500)
        head.proxy.up.set()
        assert ((await held).status_code, (await another).status_code) == (200, 200)
        head.proxy.up.clear()
        assert not (await ask(head, client, b"x" * 1000)).done(), "the room is free again"
        head.proxy.up.set()

    run(work, replace(ASLEEP, max_body_bytes=1000))


def test_a_body_counts_until_its_answer_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica has it then, and the rest of a long stream takes no room."""
    monkeypatch.setattr(hold, "MOST_HELD_BYTES", 1000)
    over = asyncio.Event()

    async def stream(_: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await over.wait()
        await send({"type": "http.response.body", "body": b""})

    async def work(head: Head, client: httpx.AsyncClient) -> None:
        asked = [await ask(head, client, b"x" * 1000) for _ in range(2)]
        over.set()
        assert [(await one).status_code for one in asked] == [200, 200]

    monkeypatch.setattr(Proxy, "__call__", lambda _, *asgi: stream(*asgi))
    run(work, replace(ASLEEP, max_body_bytes=1000))


def test_a_body_of_the_largest_size_finds_room_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold, "MOST_HELD_BYTES", 10)

    async def work(head: Head, client: httpx.AsyncClient) -> None:
        asked = await ask(head, client, b"x" * 1000)
        head.proxy.up.set()
        assert (await asked).status_code == 200

    run(work, replace(ASLEEP, max_body_bytes=1000))


@pytest.mark.parametrize("length", [True, False], ids=["declared", "streamed"])
def test_what_is_too_large_is_not_held(length: bool) -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * 500

    async def work(head: Head, client: httpx.AsyncClient) -> None:
        first = await ask(head, client)  # from the first look on, the endpoint's own limit counts
        content = b"x" * 1500 if length else body()
        assert (await client.post("/v1/completions", content=content)).status_code == 413
        head.proxy.up.set()
        await first

    run(work, replace(ASLEEP, max_body_bytes=1024))
