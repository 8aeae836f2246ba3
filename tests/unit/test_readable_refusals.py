"""A browser's page may read our own answers where it may read SGLang's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from sglang_serve.auth import AuthMiddleware, Policy
from sglang_serve.fan_out import FanOutMiddleware
from sglang_serve.hold import HoldMiddleware
from sglang_serve.limits import BodyLimitMiddleware, KnownModelMiddleware
from sglang_serve.situation import UNKNOWN, Situation

PAGE = {"Origin": "http://page", "Cookie": "session=1"}
MODEL = {"model": "gpt-9"}


async def never(*_: object) -> None:
    raise AssertionError("the app was called")


def as_sglang() -> dict[str, str]:
    """What SGLang's app adds to an answer (http_server.py has its CORSMiddleware like this)."""
    native = Middleware(
        CORSMiddleware, allow_origins=["*"], allow_credentials=True, allow_methods=["*"], allow_headers=["*"]
    )
    app = Starlette(routes=[Route("/", lambda _: PlainTextResponse(""))], middleware=[native])
    answer = TestClient(app).get("/", headers=PAGE)
    return {name: value for name, value in answer.headers.items() if name.startswith(("access-control", "vary"))}


def full(app: ASGIApp) -> ASGIApp:
    async def look() -> Situation:
        return UNKNOWN

    head = HoldMiddleware(app, look, lambda: False)
    head._waiting = lambda: [None] * 1000  # type: ignore[method-assign,list-item]  # as many as there may be
    return head


REFUSALS: dict[str, tuple[Callable[[ASGIApp], ASGIApp], str, int]] = {
    "too large": (lambda app: BodyLimitMiddleware(app, lambda: 1), "/v1/completions", 413),
    "no such model": (
        lambda app: KnownModelMiddleware(app, lambda: True, lambda _: False),
        "/v1/chat/completions",
        404,
    ),
    "no such order": (lambda app: FanOutMiddleware(app, never), "/-/admin/nothing", 404),  # type: ignore[arg-type]
    "no administrators": (lambda app: AuthMiddleware(app, Policy(lambda _: True)), "/flush_cache", 403),
    "no room": (full, "/v1/completions", 503),
    "nobody to administer": (full, "/-/admin/flush_cache", 503),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_page_can_read_it(name: str) -> None:
    around, path, status = REFUSALS[name]
    answer = TestClient(around(never)).post(path, json=MODEL, headers=PAGE)
    assert answer.status_code == status
    assert as_sglang()["access-control-allow-origin"] == "http://page"
    assert as_sglang().items() <= answer.headers.items()


def test_what_all_replicas_said_can_be_read_too() -> None:
    async def broadcast(_: object) -> list[object]:
        return []

    answer = TestClient(FanOutMiddleware(never, broadcast)).post("/-/admin/flush_cache", headers=PAGE)
    assert answer.status_code == 200
    assert as_sglang().items() <= answer.headers.items()
