from __future__ import annotations

import asyncio
import itertools
import json
import tracemalloc
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sglang_serve.limits import BodyLimitMiddleware, KnownModelMiddleware

LIMIT = 100
SERVED = {"tiny", "tiny:sql"}


async def echo(request: Request) -> Response:
    return Response(await request.body())


async def swallow(request: Request) -> Response:
    """As FastAPI does: whatever goes wrong while the body is read becomes its own 400."""
    try:
        return Response(await request.body())
    except Exception as error:
        raise HTTPException(400, "There was an error parsing the body") from error


async def ignore(request: Request) -> PlainTextResponse:
    return PlainTextResponse("not read")


def limited() -> Starlette:
    apps = {"/echo": echo, "/v1/x": swallow, "/ignore": ignore}
    routes = [Route(path, app, methods=["POST"]) for path, app in apps.items()]
    return Starlette(routes=routes, middleware=[Middleware(BodyLimitMiddleware, max_bytes=lambda: LIMIT)])


def strict_about_models(*, enabled: bool = True) -> Starlette:
    routes = [Route("/{path:path}", echo, methods=["POST"])]
    known = Middleware(KnownModelMiddleware, enabled=lambda: enabled, is_served=SERVED.__contains__)
    return Starlette(routes=routes, middleware=[known])


def post(app: ASGIApp, path: str, content: bytes | AsyncIterator[bytes], content_type: str = "") -> httpx.Response:
    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.post(path, content=content, headers={"Content-Type": content_type})

    return asyncio.run(ask())


async def chunks(count: int, size: int = 40) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * size


@pytest.mark.parametrize("path", ["/echo", "/v1/x"])
def test_a_body_of_just_the_limit_passes(path: str) -> None:
    response = post(limited(), path, b"x" * LIMIT)
    assert (response.status_code, response.content) == (200, b"x" * LIMIT)


@pytest.mark.parametrize("path", ["/echo", "/v1/x", "/ignore"])
def test_a_declared_length_over_the_limit_is_413(path: str) -> None:
    response = post(limited(), path, b"x" * (LIMIT + 1))
    assert response.status_code == 413
    assert response.json()["code"] == 413
    assert "100 bytes (spec.api.limits.maxBodyBytes)" in response.json()["message"]


@pytest.mark.parametrize("path", ["/echo", "/v1/x"])
def test_a_streamed_body_over_the_limit_is_413(path: str) -> None:
    assert post(limited(), path, chunks(3)).status_code == 413


def test_a_streamed_body_under_the_limit_passes() -> None:
    assert post(limited(), "/echo", chunks(2)).content == b"x" * 80


def test_a_body_without_a_length_is_bounded_also_where_the_app_does_not_read_it() -> None:
    """Serve reads on while a health check waits, and keeps all that comes."""
    sent: list[Message] = []
    given = itertools.count()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("the app was called")

    async def receive() -> Message:
        next(given)
        return {"type": "http.request", "body": b"x" * 60, "more_body": True}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/health", "headers": [(b"transfer-encoding", b"chunked")]}
    asyncio.run(BodyLimitMiddleware(app, lambda: LIMIT)(scope, receive, send))
    assert (sent[0]["status"], next(given)) == (413, 2)


def test_a_length_that_lies_does_not_help() -> None:
    """A server in front may pass on what it was told: the bytes count."""
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Response(await Request(scope, receive).body())(scope, receive, send)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"x" * 60, "more_body": True}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/echo", "headers": [(b"content-length", b"1")]}
    asyncio.run(BodyLimitMiddleware(app, lambda: LIMIT)(scope, receive, send))
    assert sent[0]["status"] == 413


def test_a_client_that_leaves_in_the_middle_is_told_to_the_app() -> None:
    messages: list[Message] = [{"type": "http.request", "body": b"x", "more_body": True}, {"type": "http.disconnect"}]
    given = iter(messages)
    seen: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend([await receive(), await receive()])

    async def receive() -> Message:
        return next(given)

    async def send(message: Message) -> None:
        raise AssertionError(f"nobody is there: {message}")

    scope = {"type": "http", "method": "POST", "path": "/echo", "headers": [(b"transfer-encoding", b"chunked")]}
    asyncio.run(BodyLimitMiddleware(app, lambda: LIMIT)(scope, receive, send))
    assert seen == messages


def test_a_body_is_not_kept_while_its_answer_comes() -> None:
    """An answer may take long, and the head that passes it on counts the body as released."""
    size = 8 * 2**20
    kept: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        kept.append(tracemalloc.get_traced_memory()[0])

    async def receive() -> Message:
        return {"type": "http.request", "body": bytes(bytearray(size))}

    async def send(message: Message) -> None:
        raise AssertionError(message)

    scope = {"type": "http", "method": "POST", "path": "/echo", "headers": [(b"transfer-encoding", b"chunked")]}
    tracemalloc.start()
    try:
        asyncio.run(BodyLimitMiddleware(app, lambda: size)(scope, receive, send))
    finally:
        tracemalloc.stop()
    assert kept[0] < size


def test_the_shapes_of_anthropic_and_responses_clients() -> None:
    assert post(limited(), "/v1/messages", b"x" * 101).json()["error"]["type"] == "request_too_large"
    assert post(limited(), "/v1/responses", b"x" * 101).json()["error"]["code"] == 413


@pytest.mark.parametrize("model", ["tiny", "tiny:sql"])
def test_a_served_model_passes_unchanged(model: str) -> None:
    body = json.dumps({"model": model, "prompt": "héllo"}).encode()
    assert post(strict_about_models(), "/v1/completions", body, "application/json").content == body


def test_an_unknown_model_gets_openais_answer() -> None:
    response = post(strict_about_models(), "/v1/completions", b'{"model": "gpt-9"}', "application/json; charset=utf-8")
    assert response.status_code == 404
    assert response.json() == {
        "error": {
            "message": "The model `gpt-9` does not exist or you do not have access to it.",
            "type": "invalid_request_error",
            "param": None,
            "code": "model_not_found",
        }
    }


def test_an_unknown_model_that_is_no_text() -> None:
    """Half of a surrogate pair, which JSON can say and UTF-8 cannot: it is answered as it was asked."""
    response = post(strict_about_models(), "/v1/completions", b'{"model": "\\ud800"}', "application/json")
    assert response.status_code == 404
    assert b"`\\ud800`" in response.content
    assert response.json()["error"]["code"] == "model_not_found"


def test_an_unknown_model_for_anthropics_clients() -> None:
    response = post(strict_about_models(), "/v1/messages", b'{"model": "gpt-9"}', "application/json")
    assert response.json()["error"]["type"] == "not_found_error"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1]", b"{}", b'{"model": 3}', b'{"model": null}', b"\xff", b"[" * 100_000]
)
def test_what_names_no_model_is_the_apps_to_judge(body: bytes) -> None:
    assert post(strict_about_models(), "/v1/completions", body, "application/json").content == body


def test_other_content_other_routes_and_endpoints_that_answer_are_left_alone() -> None:
    body = b'{"model": "gpt-9"}'
    assert post(strict_about_models(), "/v1/completions", body, "text/plain").content == body
    assert post(strict_about_models(), "/generate", body, "application/json").content == body
    assert post(strict_about_models(enabled=False), "/v1/completions", body, "application/json").content == body


def test_after_the_replayed_body_the_app_still_sees_its_client_leave() -> None:
    messages: list[Message] = [
        {"type": "http.request", "body": b'{"model":', "more_body": True},
        {"type": "http.request", "body": b' "tiny"}', "more_body": False},
        {"type": "http.disconnect"},
    ]
    seen: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend([await receive(), await receive()])

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        raise AssertionError(message)

    whole = {"type": "http.request", "body": b'{"model": "tiny"}', "more_body": False}
    expected = [whole, {"type": "http.disconnect"}]
    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/completions", "headers": headers}
    asyncio.run(KnownModelMiddleware(app, lambda: True, SERVED.__contains__)(scope, receive, send))
    assert seen == expected


def test_a_client_that_leaves_while_it_sends_is_not_asked_again() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with pytest.raises(ClientDisconnect):
            await Request(scope, receive).body()

    messages: list[Message] = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        raise AssertionError(message)

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/completions", "headers": headers}
    asyncio.run(KnownModelMiddleware(app, lambda: True, SERVED.__contains__)(scope, receive, send))
