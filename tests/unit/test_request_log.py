from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from sglang_serve.auth import KEY_NAME
from sglang_serve.request_log import CLIENT_GONE, LONGEST_TEXT, Origin, RequestLogMiddleware

SENTINEL = "do-not-log-me"
USAGE = {"prompt_tokens": 7, "total_tokens": 12, "completion_tokens": 5, "prompt_tokens_details": None}
ORIGIN = Origin(endpoint="qwen3", revision="qwen3-abc", replica="r1")


async def chat(request: Request) -> Response:
    content = f'{SENTINEL} "usage":{{"prompt_tokens":99}}'  # generated text may look like usage
    return JSONResponse({"choices": [{"content": content * 100}], "usage": USAGE, "metadata": {"weight_version": "d"}})


async def stream(request: Request) -> Response:
    async def events() -> AsyncIterator[str]:
        for _ in range(300):
            yield f'data: {{"content":"{SENTINEL}","usage":null}}\n\n'
        if "usage" in request.query_params:
            yield f"data: {json.dumps({'usage': USAGE}, separators=(',', ':'))}\n\n"
        yield "data: [DONE]\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


async def crash(request: Request) -> Response:
    raise RuntimeError(SENTINEL)


async def talk(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.close()


class Log(list[dict[str, Any]]):
    def write(self, line: str) -> None:
        assert "\n" not in line
        assert SENTINEL not in line
        self.append(json.loads(line))


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def client(log: Log) -> TestClient:
    routes = [
        Route("/v1/chat/completions", chat, methods=["POST"]),
        Route("/stream", stream),
        Route("/crash", crash),
        WebSocketRoute("/v1/realtime", talk),
    ]
    ticks = itertools.count(step=0.25)
    logging = Middleware(RequestLogMiddleware, origin=ORIGIN, write=log.write, clock=lambda: next(ticks))
    return TestClient(Starlette(routes=routes, middleware=[logging]), raise_server_exceptions=False)


def test_a_line_says_who_what_and_how_long(client: TestClient, log: Log) -> None:
    client.post(f"/v1/chat/completions?q={SENTINEL}", json={"prompt": SENTINEL}, headers={"X-Request-Id": "abc"})
    (line,) = log
    assert line.pop("time").endswith("+00:00")
    assert line.pop("seconds") > 0
    assert line == {
        "event": "request",
        "endpoint": "qwen3",
        "revision": "qwen3-abc",
        "replica": "r1",
        "request_id": "abc",
        "key": "",
        "method": "POST",
        "path": "/v1/chat/completions",
        "status": 200,
        "prompt_tokens": 7,
        "completion_tokens": 5,
    }


def test_a_stream_has_its_time_to_the_first_token(client: TestClient, log: Log) -> None:
    client.get("/stream")
    assert 0 < log[0]["ttft_seconds"] < log[0]["seconds"]
    assert "completion_tokens" not in log[0]


def test_a_stream_with_usage_has_its_tokens(client: TestClient, log: Log) -> None:
    client.get("/stream?usage")
    assert (log[0]["prompt_tokens"], log[0]["completion_tokens"]) == (7, 5)


def test_a_request_id_is_made_and_returned(client: TestClient, log: Log) -> None:
    response = client.get("/stream")
    assert response.headers["x-request-id"] == log[0]["request_id"]
    assert log[0]["request_id"] != ""


def test_a_given_request_id_is_left_to_serve_to_return(client: TestClient, log: Log) -> None:
    """Serve, in front of us, returns it and would send it twice."""
    assert "x-request-id" not in client.get("/stream", headers={"X-Request-Id": "abc"}).headers


def test_an_endless_request_id_is_cut(client: TestClient, log: Log) -> None:
    client.get("/stream", headers={"X-Request-Id": "a" * 5000})
    assert len(log[0]["request_id"]) == LONGEST_TEXT


def test_an_error_in_the_app_is_a_500(client: TestClient, log: Log) -> None:
    assert client.get("/crash").status_code == 500
    assert log[0]["status"] == 500


def test_an_unknown_route_is_logged(client: TestClient, log: Log) -> None:
    client.get("/nothing")
    assert (log[0]["path"], log[0]["status"]) == ("/nothing", 404)


def test_a_websocket_is_logged(client: TestClient, log: Log) -> None:
    with client.websocket_connect("/v1/realtime"):
        pass
    assert (log[0]["method"], log[0]["status"]) == ("WEBSOCKET", 101)


def test_the_name_of_the_key_is_in_the_line(log: Log) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope[KEY_NAME] = "alice"
        await Response("ok")(scope, receive, send)

    async def ask() -> None:
        transport = httpx.ASGITransport(RequestLogMiddleware(app, ORIGIN, log.write))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            await client.get("/")

    asyncio.run(ask())
    assert log[0]["key"] == "alice"


def test_a_client_that_left_is_logged_and_the_cancellation_goes_on(log: Log) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise asyncio.CancelledError

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        pass

    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": []}
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(RequestLogMiddleware(app, ORIGIN, log.write)(scope, receive, send))
    assert log[0]["status"] == CLIENT_GONE
