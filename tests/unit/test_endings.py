"""When a request is over: with its answer, whatever the app does afterwards."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sglang_serve.endings import EndWithBodyMiddleware

HTTP: Scope = {"type": "http"}
START: Message = {"type": "http.response.start", "status": 200, "headers": []}
PART: Message = {"type": "http.response.body", "body": b"data", "more_body": True}
END: Message = {"type": "http.response.body", "body": b""}


async def nothing() -> Message:
    await asyncio.Event().wait()
    raise AssertionError("never")


async def drop(message: Message) -> None:
    del message


def ending(app: ASGIApp, *, with_client: bool = True) -> EndWithBodyMiddleware:
    return EndWithBodyMiddleware(app, lambda _: with_client)


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await asyncio.wait_for(work(), 5)

    asyncio.run(main())


def answering(*messages: Message, then: Callable[[], Awaitable[None]]) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)
        await then()

    return app


def test_it_is_over_with_the_last_byte_and_the_app_goes_on() -> None:
    async def work() -> None:
        go_on, went_on, sent = asyncio.Event(), asyncio.Event(), []

        async def after() -> None:
            await go_on.wait()
            went_on.set()

        async def send(message: Message) -> None:
            sent.append(message)

        await ending(answering(START, PART, END, then=after))(HTTP, nothing, send)
        assert sent == [START, PART, END]
        assert not went_on.is_set()
        go_on.set()
        await went_on.wait()

    run(work)


def test_it_is_not_over_before() -> None:
    async def work() -> None:
        async def wait() -> None:
            await asyncio.Event().wait()

        asked = asyncio.ensure_future(ending(answering(START, PART, then=wait))(HTTP, nothing, drop))
        done, _ = await asyncio.wait({asked}, timeout=0.05)
        assert not done
        asked.cancel()

    run(work)


def test_an_app_that_fails_before_its_answer_fails_the_request() -> None:
    async def fail() -> None:
        raise ValueError("broken")

    async def work() -> None:
        with pytest.raises(ValueError, match="broken"):
            await ending(answering(START, then=fail))(HTTP, nothing, drop)

    run(work)


def test_one_that_fails_afterwards_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("too late")

    async def work() -> None:
        await ending(answering(START, END, then=fail))(HTTP, nothing, drop)
        await asyncio.sleep(0.01)

    with caplog.at_level(logging.WARNING, "ray.serve"):
        run(work)
    assert "too late" in caplog.text


def test_a_request_that_is_cancelled_ends_the_app() -> None:
    async def work() -> None:
        ended = asyncio.Event()

        async def wait() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        asked = asyncio.ensure_future(ending(answering(START, PART, then=wait))(HTTP, nothing, drop))
        await asyncio.sleep(0.01)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert ended.is_set()

    run(work)


def test_an_order_goes_on_without_its_client() -> None:
    """SGLang kills the process when an order's answer comes that nobody awaits."""

    async def work() -> None:
        carry_out, carried_out, sent = asyncio.Event(), asyncio.Event(), []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await carry_out.wait()
            await send(START)
            await send(END)
            carried_out.set()

        async def send(message: Message) -> None:
            sent.append(message)

        asked = asyncio.ensure_future(ending(app, with_client=False)(HTTP, nothing, send))
        await asyncio.sleep(0.01)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        carry_out.set()
        await carried_out.wait()
        assert sent == []

    run(work)


def test_an_order_of_which_half_has_come_ends_with_its_client() -> None:
    """Serve gives no more of it after its own time-out, so it would wait for ever."""

    async def work() -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()

        middleware = ending(app, with_client=False)
        asked = asyncio.ensure_future(middleware(HTTP, nothing, drop))
        await asyncio.sleep(0.01)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert not middleware._goes_on

    run(work)
