from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from sglang_serve import report
from sglang_serve.args import LiveArgs
from sglang_serve.asgi import DISCONNECT_DISABLED, Context, find_inference_first, install, on_startup, serve_middlewares
from sglang_serve.auth import Policy
from sglang_serve.fan_out import Request as AdminRequest
from sglang_serve.fan_out import perform
from sglang_serve.keys import KeyRing
from sglang_serve.request_log import Origin


async def headers(request: Request) -> JSONResponse:
    await request.body()
    return JSONResponse(dict(request.headers))


def lives(app: Starlette) -> list[str]:
    """What `on_startup` has called, in the order of the calls, while the app starts and ends."""
    calls: list[str] = []

    async def failed(error: Exception) -> Exception:
        calls.append(f"failed: {error}")
        return RuntimeError("a reason")

    on_startup(app, lambda: calls.append("begun"), failed)
    with suppress(RuntimeError), TestClient(app):
        calls.append("serves")
    return calls


@pytest.mark.parametrize("broken", [False, True])
def test_it_has_begun_when_the_apps_own_lifespan_has(broken: bool) -> None:
    calls: list[str] = []

    @asynccontextmanager
    async def native(app: Starlette) -> AsyncIterator[None]:
        calls.append("native begins")
        if broken:
            raise OSError("the tool server does not answer")
        yield
        calls.append("native ends")

    found = lives(Starlette(lifespan=native))
    assert found == (["failed: the tool server does not answer"] if broken else ["begun", "serves"])
    assert calls == (["native begins"] if broken else ["native begins", "native ends"])


class Replica:
    """An app with the middleware installed, and what of it changes while it runs."""

    def __init__(self, keys_dir: Path) -> None:
        self.live = LiveArgs()
        self.lines: list[str] = []
        self.probes = 0
        self.broken = False
        self.app = Starlette(routes=[Route("/v1/completions", headers, methods=["POST"])])
        self.app.add_middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"])
        context = Context(
            origin=Origin("e", "r", "1"),
            policy=Policy(is_admin=lambda scope: False, keys=KeyRing(keys_dir)),
            live=lambda: self.live,
            is_served="tiny".__eq__,
            write=self.lines.append,
            broadcast=self.ask_all,
            replica=report.Replica(Origin("e", "r", "1"), "10.0.0.7", lambda: self.live.config_id, self.probe),
        )
        install(self.app, context)
        self.client = TestClient(self.app, headers={"Authorization": "Bearer a-key"})

    async def ask_all(self, request: AdminRequest) -> list[Any]:
        return [await perform(self.app, "1", request)]

    async def probe(self) -> None:
        self.probes += 1
        if self.broken:
            raise RuntimeError("the engine sent nothing")

    def ask(self, model: str = "tiny", **extra: str) -> int:
        return self.client.post("/v1/completions", json={"model": model}, headers=extra).status_code


def replica(tmp_path: Path) -> Replica:
    (tmp_path / "alice").write_text("a-key")
    return Replica(tmp_path)


def test_routes_of_inference_are_found_first() -> None:
    paths = ["/health", "/v1/models/{model:path}", "/generate", "/v1/completions", "/v1/models", "/start_profile"]
    app = Starlette(routes=[Route(path, headers) for path in paths])
    find_inference_first(app)
    found = [route.path for route in app.routes if isinstance(route, Route)]
    assert found == [
        "/generate",
        "/v1/completions",
        "/v1/models",
        "/health",
        "/v1/models/{model:path}",
        "/start_profile",
    ]


def test_the_key_is_asked_before_the_body_is_looked_at(tmp_path: Path) -> None:
    served = replica(tmp_path)
    served.live = LiveArgs(max_body_bytes=1, unknown_model="NotFound")
    assert served.ask(Authorization="Bearer wrong") == 401
    assert served.ask() == 413


def test_reconfigure_takes_effect_at_once(tmp_path: Path) -> None:
    served = replica(tmp_path)
    assert served.ask("gpt-9") == 200
    served.live = LiveArgs(unknown_model="NotFound")
    assert served.ask("gpt-9") == 404
    served.live = LiveArgs(max_body_bytes=1)
    assert served.ask() == 413


def test_every_refusal_is_in_the_log_with_the_key_that_asked(tmp_path: Path) -> None:
    served = replica(tmp_path)
    served.ask()
    served.ask(Authorization="Bearer wrong")
    lines = [json.loads(line) for line in served.lines]
    assert [(line["status"], line["key"]) for line in lines] == [(200, "alice"), (401, "")]


def test_a_preflight_request_needs_no_key(tmp_path: Path) -> None:
    """Browsers send none; SGLang lets them pass too."""
    client = TestClient(replica(tmp_path).app)
    asked = {"Origin": "http://page", "Access-Control-Request-Method": "POST"}
    assert client.options("/v1/completions", headers=asked).status_code == 200


def test_serve_never_sees_the_header_that_stops_it_watching_for_disconnects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sglang_serve.hold.in_replica", lambda: True)
    app = Starlette(routes=[Route("/", headers)], middleware=serve_middlewares())
    seen = TestClient(app).get("/", headers={DISCONNECT_DISABLED: "?1", "X-Other": "1"}).json()
    assert DISCONNECT_DISABLED not in seen
    assert seen["x-other"] == "1"


def test_a_replica_reports_itself_without_a_key_and_without_a_line_in_the_log(tmp_path: Path) -> None:
    served = replica(tmp_path)
    served.live = LiveArgs(config_id="abc")
    reply = TestClient(served.app).get("/-/replica")
    assert reply.status_code == 200
    told = reply.json()
    assert told.pop("idle_seconds") >= 0
    assert told == {
        "endpoint": "e",
        "revision": "r",
        "replica": "1",
        "node_ip": "10.0.0.7",
        "config_id": "abc",
        "in_flight": 0,
    }
    assert (served.lines, served.probes) == ([], 0)


def test_the_engine_is_asked_at_most_once_a_second(tmp_path: Path) -> None:
    served = replica(tmp_path)
    client = TestClient(served.app)
    assert [client.get("/-/replica?generate=1").status_code for _ in range(5)] == [200] * 5
    assert served.probes == 1


def test_a_silent_engine_is_a_503_that_says_so(tmp_path: Path) -> None:
    served = replica(tmp_path)
    served.broken = True
    reply = TestClient(served.app).get("/-/replica?generate=1")
    assert reply.status_code == 503
    assert "sent nothing" in reply.json()["error"]
