"""Who and what gets in, at the address that clients use: keys, admin key, limits, names, and the line in the log.

The rules are unit-tested; this shows that HAProxy, Ray Serve and SGLang's app leave them whole.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from engine.apps import TINY_ENGINE, ServeApp, endpoint
from engine.parity.coverage import routes
from waiting import wait_until
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect as connect_websocket

SECONDS = 30  # for what happens within one or two, on two busy cores
MAX_BODY_BYTES = 200_000
AFTER_A_STREAM = 2.0  # seconds that SGLang sleeps after each
SENTINEL = "sentinel-that-must-not-be-logged"
API = {
    "keysSecret": {"name": "keys"},
    "adminKeySecret": {"name": "admin", "key": "key"},
    "limits": {"maxBodyBytes": MAX_BODY_BYTES},
    "unknownModel": "NotFound",
}
ALICE = {"Authorization": "Bearer alice-key"}
ADMIN = {"Authorization": "Bearer admin-key"}
PROMPT = {"model": "tiny", "prompt": "License", "max_tokens": 2}


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Alice's key. The admin key is not there yet."""
    directory = tmp_path_factory.mktemp("secrets")
    (directory / "keys").mkdir()
    (directory / "keys" / "alice").write_text("alice-key\n")
    return directory


@pytest.fixture(scope="module")
def app(engine_python: Path, tiny_model: Path, secrets: Path) -> Iterator[ServeApp]:
    manifest = endpoint(tiny_model, api=API, engine={"args": TINY_ENGINE})
    with ServeApp(manifest, engine_python, keys_dir=secrets / "keys", admin_key_file=secrets / "admin") as app:
        yield app


@pytest.fixture(scope="module")
def client(app: ServeApp) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=app.url, timeout=SECONDS, trust_env=False) as client:
        yield client


def test_admin_routes_are_closed_until_there_is_an_admin_key(
    client: httpx.Client, engine_python: Path, secrets: Path
) -> None:
    admin = [route for route in routes(engine_python) if route.is_admin]
    assert len(admin) >= 42
    for route in admin:
        for method in route.methods:
            for headers in ({}, ALICE, ADMIN):
                assert client.request(method, route.path, headers=headers).status_code == 403, (method, route.path)
    (secrets / "admin").write_text("admin-key")
    wait_until(lambda: client.post("/flush_cache", headers=ADMIN).status_code == 200, SECONDS, "the admin key opens")
    assert client.post("/flush_cache", headers=ALICE).status_code == 401
    assert client.get("/v1/models", headers=ADMIN).status_code == 401


def test_a_key_counts_from_when_its_file_is_there_until_it_is_gone(client: httpx.Client, secrets: Path) -> None:
    bob = {"Authorization": "Bearer bob-key"}
    assert client.get("/v1/models", headers=bob).status_code == 401
    (secrets / "keys" / "bob").write_text("bob-key")
    wait_until(lambda: client.get("/v1/models", headers=bob).status_code == 200, SECONDS, "the new key opens")
    (secrets / "keys" / "bob").unlink()
    wait_until(
        lambda: client.get("/v1/models", headers=bob).status_code == 401, SECONDS, "the withdrawn key is refused"
    )
    assert client.get("/v1/models", headers=ALICE).status_code == 200


def realtime(app: ServeApp, **options: Any) -> None:
    address = app.url.replace("http://", "ws://") + "/v1/realtime"
    with connect_websocket(address, open_timeout=SECONDS, **options):
        pass


@pytest.mark.parametrize("options", [{}, {"additional_headers": {"Authorization": "Bearer no-such-key"}}])
def test_a_websocket_needs_a_key(app: ServeApp, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidStatus) as refused:
        realtime(app, **options)
    assert refused.value.response.status_code == 403


def test_a_websocket_opens_with_a_key(app: ServeApp) -> None:
    realtime(app, additional_headers=ALICE)


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_over_the_limit_is_413(client: httpx.Client, is_chunked: bool) -> None:
    body = json.dumps({**PROMPT, "prompt": "x" * 2 * MAX_BODY_BYTES}).encode()
    pieces = (body[i : i + 10_000] for i in range(0, len(body), 10_000))
    headers = {**ALICE, "Content-Type": "application/json"}
    response = client.post("/v1/completions", content=pieces if is_chunked else body, headers=headers)
    assert response.status_code == 413
    assert response.json()["code"] == 413


@pytest.mark.parametrize(("method", "path"), [("POST", "/health"), ("OPTIONS", "/v1/completions")])
def test_who_has_no_key_brings_a_small_body_or_none(client: httpx.Client, method: str, path: str) -> None:
    assert client.request(method, path, json={}).status_code == 405
    assert client.request(method, path, content=b"x" * 20_000).status_code == 413


@pytest.mark.parametrize("name", ["X-Request-ID", "X-Session-ID", "x-request-timeout-seconds"])
def test_a_header_that_is_no_text_is_ignored(client: httpx.Client, name: str) -> None:
    """Ray Serve reads it before anything of ours does, but for what it calls first."""
    headers: list[tuple[bytes, bytes]] = [(name.encode(), b"J\xfcrgen"), *httpx.Headers(ALICE).raw]
    response = client.get("/v1/models", headers=headers)
    assert (response.status_code, len(response.headers.get_list("x-request-id"))) == (200, 1)


def test_a_page_can_read_what_is_not_sglangs(client: httpx.Client) -> None:
    page = {**ALICE, "Origin": "http://page"}
    mine = client.post("/v1/completions", json={**PROMPT, "model": "gpt-9"}, headers=page)
    native = client.post("/v1/completions", json={}, headers=page)
    assert (mine.status_code, native.status_code) == (404, 400)
    for name in ("access-control-allow-origin", "access-control-allow-credentials", "vary"):
        assert mine.headers[name] == native.headers[name]


def test_a_model_that_is_not_served_is_openais_404(client: httpx.Client) -> None:
    response = client.post("/v1/completions", json={**PROMPT, "model": "gpt-9", "stream": True}, headers=ALICE)
    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")
    assert client.post("/v1/completions", json=PROMPT, headers=ALICE).status_code == 200


def request_lines(app: ServeApp) -> list[dict[str, Any]]:
    """The request log, found in the log of everything: other lines have prefixes, or are no JSON."""
    lines = (line[line.index("{") :] for line in app.log.read_text().splitlines() if '"event":"request"' in line)
    return [json.loads(line) for line in lines]


def test_each_request_is_one_line_without_what_was_said(app: ServeApp, client: httpx.Client) -> None:
    body = {**PROMPT, "prompt": SENTINEL, "stream": True, "stream_options": {"include_usage": True}}
    response = client.post("/v1/completions", json=body, headers={**ALICE, "X-Request-Id": "id-1"})
    assert response.headers.get_list("x-request-id") == ["id-1"]
    wait_until(
        lambda: any(line["request_id"] == "id-1" for line in request_lines(app)), SECONDS, "the line is in the log"
    )
    (line,) = [line for line in request_lines(app) if line["request_id"] == "id-1"]
    expected = {"endpoint": "tiny", "key": "alice", "method": "POST", "path": "/v1/completions", "status": 200}
    assert expected.items() <= line.items()
    assert line["completion_tokens"] == 2
    assert 0 < line["ttft_seconds"] <= line["seconds"]
    assert line["seconds"] < AFTER_A_STREAM + line["ttft_seconds"], "what SGLang does after a stream is no part of it"
    log = app.log.read_text()
    assert SENTINEL not in log
    assert "alice-key" not in log
    assert "admin-key" not in log


def test_a_request_id_is_made_where_none_was_sent(client: httpx.Client) -> None:
    (made,) = client.get("/v1/models", headers=ALICE).headers.get_list("x-request-id")
    assert made


def test_a_client_cannot_make_serve_forget_that_it_left(client: httpx.Client) -> None:
    headers = {**ALICE, "x-request-disconnect-disabled": "?1"}
    body = {**PROMPT, "max_tokens": 3500, "ignore_eos": True, "stream": True}
    with client.stream("POST", "/v1/completions", json=body, headers=headers) as response:
        next(response.iter_raw())
    wait_until(lambda: running(client) == 0, SECONDS, "its generation has ended")


def running(client: httpx.Client) -> int:
    """Requests in the engine. A request of 3500 tokens alone takes longer than the wait for it."""
    loads = client.get("/v1/loads", headers=ALICE).json()["loads"]
    return sum(int(load["num_running_reqs"]) for load in loads)


def test_server_info_shows_no_key(client: httpx.Client) -> None:
    info = client.get("/server_info", headers=ALICE).text
    assert "alice-key" not in info
    assert "admin-key" not in info


def raw(path: str, body: bytes = b"", *headers: str) -> bytes:
    """The head of a request as a client with keep-alive writes it."""
    lines = [f"{'POST' if body else 'GET'} {path} HTTP/1.1", "Host: tiny", "Authorization: Bearer alice-key", *headers]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode()


def connection(app: ServeApp) -> socket.socket:
    where = urlsplit(app.url)
    return socket.create_connection((where.hostname, where.port), timeout=SECONDS)


def read_to_end(opened: socket.socket) -> bytes:
    """Times out unless the other side ends the connection."""
    return b"".join(iter(lambda: opened.recv(65_536), b""))


def is_last(answer: bytes) -> bool:
    """Whether this is one whole answer that says that no other follows on its connection."""
    head, _, body = answer.lower().partition(b"\r\n\r\n")
    is_whole = body.endswith(b"0\r\n\r\n") if b"transfer-encoding: chunked" in head else body
    return head.startswith(b"http/1.1 200") and b"\r\nconnection: close" in head and bool(is_whole)


@pytest.mark.parametrize("is_stream", [False, True])
def test_each_answer_ends_its_connection(app: ServeApp, is_stream: bool) -> None:
    """Why: docs/adr/0008-one-request-per-connection.md."""
    body = json.dumps({**PROMPT, "stream": is_stream}).encode()
    with connection(app) as opened:
        opened.sendall(raw("/v1/completions", body) + body)
        assert is_last(read_to_end(opened))


def test_a_client_that_waits_to_be_told_to_continue_is_told(app: ServeApp) -> None:
    body = json.dumps(PROMPT).encode()
    with connection(app) as opened:
        opened.sendall(raw("/v1/completions", body, "Expect: 100-continue"))
        assert opened.recv(65_536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        opened.sendall(body)
        assert is_last(read_to_end(opened))


def test_clients_that_keep_connections_notice_nothing(app: ServeApp) -> None:
    with httpx.Client(base_url=app.url, timeout=SECONDS, headers=ALICE) as client, ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: client.get("/v1/models").status_code, range(400)))
    assert statuses == [200] * 400
