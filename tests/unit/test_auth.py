from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from sglang_serve.auth import OPEN_PREFIXES, AuthMiddleware, Policy, policy_from
from sglang_serve.keys import KeyRing

ADMIN_PATHS = {"/flush_cache"}
UNAUTHORIZED = b'{"error":"Unauthorized"}'


def is_admin(scope: Scope) -> bool:
    return scope["path"] in ADMIN_PATHS


async def answer(request: Request) -> PlainTextResponse:
    return PlainTextResponse("passed")


async def talk(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("passed")
    await websocket.close()


@pytest.fixture
def keys(tmp_path: Path) -> KeyRing:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "alice").write_text("a-key")
    (tmp_path / "keys" / "bob").write_text("b-key")
    return KeyRing(tmp_path / "keys")


@pytest.fixture
def admin(tmp_path: Path) -> KeyRing:
    (tmp_path / "admin").write_text("admin-key")
    return KeyRing(tmp_path / "admin")


def client(keys: KeyRing | None = None, admin: KeyRing | None = None) -> TestClient:
    policy = Policy(is_admin=is_admin, keys=keys, admin=admin)
    routes = [
        Route("/v1/models", answer),
        Route("/flush_cache", answer, methods=["GET", "POST"]),
        Route("/health_generate", answer),
        Route("/ready", answer),
        WebSocketRoute("/v1/realtime", talk),
    ]
    return TestClient(Starlette(routes=routes, middleware=[Middleware(AuthMiddleware, policy=policy)]))


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_without_keys_everybody_may_ask() -> None:
    assert client().get("/v1/models").text == "passed"


@pytest.mark.parametrize("key", ["a-key", "b-key"])
def test_each_key_opens(keys: KeyRing, key: str) -> None:
    assert client(keys).get("/v1/models", headers=bearer(key)).text == "passed"


def test_the_scheme_is_case_insensitive(keys: KeyRing) -> None:
    assert client(keys).get("/v1/models", headers={"Authorization": "bEARER a-key"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer("c-key"),
        bearer(""),
        bearer(" a-key"),
        {"Authorization": "a-key"},
        {"Authorization": "Basic a-key"},
        {"X-Api-Key": "a-key"},
    ],
)
def test_anything_else_gets_the_answer_of_sglang(keys: KeyRing, headers: dict[str, str]) -> None:
    response = client(keys).get("/v1/models", headers=headers)
    assert (response.status_code, response.content) == (401, UNAUTHORIZED)
    assert response.headers["content-type"] == "application/json"


def test_a_key_outside_ascii_is_refused_not_an_error(keys: KeyRing) -> None:
    assert client(keys).get("/v1/models", headers={b"Authorization": "Bearer ké".encode()}).status_code == 401


def test_the_query_is_no_place_for_a_key(keys: KeyRing) -> None:
    assert client(keys).get("/v1/models?api_key=a-key").status_code == 401


@pytest.mark.parametrize("path", ["/health_generate", "/ready"])
def test_probes_need_no_key(keys: KeyRing, path: str) -> None:
    assert client(keys).get(path).text == "passed"


def test_a_host_header_cannot_pose_as_an_open_path(keys: KeyRing) -> None:
    """A URL built from it would be http://x/health?/v1/models, whose path is open."""
    assert client(keys).get("/v1/models", headers={"Host": "x/health?"}).status_code == 401


@pytest.mark.parametrize("headers", [{}, bearer("a-key"), bearer("admin-key")])
def test_admin_routes_are_closed_without_an_admin_key(keys: KeyRing, headers: dict[str, str]) -> None:
    response = client(keys).post("/flush_cache", headers=headers)
    assert response.status_code == 403
    assert response.json()["code"] == 403
    assert "spec.api.adminKeySecret" in response.json()["message"]


def test_admin_routes_are_closed_on_an_endpoint_without_keys_too() -> None:
    assert client().post("/flush_cache").status_code == 403


def test_admin_routes_open_to_the_admin_key_only(keys: KeyRing, admin: KeyRing) -> None:
    ask = client(keys, admin)
    assert ask.post("/flush_cache", headers=bearer("admin-key")).text == "passed"
    assert ask.post("/flush_cache", headers=bearer("a-key")).content == UNAUTHORIZED
    assert ask.post("/flush_cache").status_code == 401


def test_the_admin_key_is_no_api_key(keys: KeyRing, admin: KeyRing) -> None:
    assert client(keys, admin).get("/v1/models", headers=bearer("admin-key")).status_code == 401


def test_an_admin_key_that_is_not_there_yet_closes_admin_routes(tmp_path: Path) -> None:
    absent = KeyRing(tmp_path / "absent")
    assert client(admin=absent).post("/flush_cache", headers=bearer("")).status_code == 403


def test_a_key_directory_that_is_empty_refuses_everybody(tmp_path: Path) -> None:
    assert client(KeyRing(tmp_path)).get("/v1/models", headers=bearer("")).status_code == 401


def test_a_websocket_without_a_key_is_closed_before_it_is_accepted(keys: KeyRing) -> None:
    with (
        pytest.raises(WebSocketDisconnect) as closed,
        client(keys).websocket_connect("/v1/realtime", subprotocols=["realtime"]),
    ):
        pass
    assert closed.value.code == 1008


@pytest.mark.parametrize(
    "how",
    [
        {"headers": bearer("a-key")},
        {"subprotocols": ["realtime", "openai-insecure-api-key.a-key"]},
    ],
)
def test_a_websocket_opens_with_header_or_subprotocol(keys: KeyRing, how: dict[str, Any]) -> None:
    with client(keys).websocket_connect("/v1/realtime", **how) as websocket:
        assert websocket.receive_text() == "passed"


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["realtime", "openai-insecure-api-key.a-key"], "realtime"),
        (["openai-insecure-api-key.a-key", "realtime", "v1"], "realtime"),
        (["openai-insecure-api-key.a-key"], None),
        (["realtime"], None),
    ],
)
def test_a_browser_is_told_its_subprotocol_and_never_its_key(
    keys: KeyRing, offered: list[str], chosen: str | None
) -> None:
    """SGLang chooses none, and a browser that has offered some ends such a websocket."""
    headers = {} if len(offered) > 1 else bearer("a-key")
    with client(keys).websocket_connect("/v1/realtime", subprotocols=offered, headers=headers) as websocket:
        assert websocket.accepted_subprotocol == chosen
        assert websocket.receive_text() == "passed"


def test_a_subprotocol_that_the_app_chooses_stays(keys: KeyRing) -> None:
    async def choose(websocket: WebSocket) -> None:
        await websocket.accept(subprotocol="v1")
        await websocket.close()

    middleware = [Middleware(AuthMiddleware, policy=Policy(is_admin=is_admin, keys=keys))]
    app = TestClient(Starlette(routes=[WebSocketRoute("/ws", choose)], middleware=middleware))
    offered = ["realtime", "v1", "openai-insecure-api-key.a-key"]
    with app.websocket_connect("/ws", subprotocols=offered) as websocket:
        assert websocket.accepted_subprotocol == "v1"


def test_the_subprotocol_counts_on_websockets_only(keys: KeyRing) -> None:
    headers = {"Sec-WebSocket-Protocol": "openai-insecure-api-key.a-key"}
    assert client(keys).get("/v1/models", headers=headers).status_code == 401


@pytest.mark.parametrize("wanted", ["require_keys", "admin"])
def test_a_wanted_but_unset_path_is_an_error(wanted: str) -> None:
    flags = {"require_keys": False, "admin": False, wanted: True}
    with pytest.raises(ValueError, match=f"{wanted} is set, but SGLANG_SERVE_"):
        policy_from(is_admin, keys_dir="", admin_key_file="", **flags)


async def passes(policy: Policy, scope: Scope) -> bool:
    """Whether the request reaches the app, whatever else happens."""
    reached = False

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal reached
        reached = True

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        pass

    await AuthMiddleware(app, policy)(scope, receive, send)
    return reached


header_values = st.one_of(
    st.binary(max_size=20),
    st.sampled_from([b"Bearer a-key ", b"Bearer  a-key", b"Bearer\ta-key", b"Bearer A-KEY", b"bearer admin-key2"]),
    st.binary(max_size=12).map(lambda token: b"Bearer " + token),
)
header_names = st.sampled_from(
    [b"authorization", b"x-api-key", b"host", b"sec-websocket-protocol", b"x-forwarded-host"]
)
paths = st.one_of(
    st.text(max_size=20).map(lambda p: "/" + p), st.sampled_from(["/v1/models", "/flush_cache", "//ready"])
)
scopes = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["http", "websocket"]),
        "method": st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "get", "TRACE"]),
        "path": paths.filter(lambda path: not path.startswith(OPEN_PREFIXES)),
        "headers": st.lists(st.tuples(header_names, header_values), max_size=4),
        "subprotocols": st.lists(st.text(max_size=30), max_size=2),
        "query_string": st.binary(max_size=10),
        "root_path": st.sampled_from(["", "/health"]),
    }
)


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    directory = tmp_path_factory.mktemp("strict")
    (directory / "keys").mkdir()
    (directory / "keys" / "alice").write_text("a-key")
    (directory / "admin").write_text("admin-key")
    return Policy(is_admin=is_admin, keys=KeyRing(directory / "keys"), admin=KeyRing(directory / "admin"))


@given(scope=scopes)
@example(
    scope={
        "type": "http",
        "method": "GET",
        "path": "/v1/models",
        "headers": [(b"authorization", b"Bearer x"), (b"authorization", b"Bearer a-key")],
    }
)
def test_nothing_passes_without_a_valid_key(strict: Policy, scope: Scope) -> None:
    first = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    valid = {b"a-key", b"admin-key"}
    assume(first.partition(b" ")[2] not in valid)
    assert not asyncio.run(passes(strict, scope))
