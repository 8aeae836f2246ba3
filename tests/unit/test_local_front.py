"""When `run` says that it is ready: what the front answers while the replica is not behind it yet."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from sglang_serve.local import front

Serve = Callable[[int, str], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server that answers one request so; returns its URL."""
    servers: list[tuple[HTTPServer, threading.Thread]] = []

    def start(status: int, body: str) -> str:
        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: object) -> None: ...

        server = HTTPServer(("127.0.0.1", 0), Answer)
        thread = threading.Thread(target=server.handle_request)
        servers.append((server, thread))
        thread.start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server, thread in servers:
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "up"),
    [
        pytest.param(200, '{"replica": "a"}', True, id="a replica"),
        pytest.param(503, '{"held": 0, "target": 1}', False, id="the head holds: the replica is not behind it yet"),
        pytest.param(503, '{"held": 0, "target": null}', False, id="the head cannot tell"),
        pytest.param(503, '{"held": 0, "target": 0}', True, id="scaled to zero"),
        pytest.param(500, "Internal Server Error", False, id="the front itself"),
        pytest.param(404, "[]", False, id="no route yet"),
    ],
)
def test_ready_means_a_replica_or_none_wanted(serve: Serve, status: int, body: str, up: bool) -> None:
    assert front.is_up(serve(status, body)) is up


def test_nobody_listens(serve: Serve) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert not front.is_up(f"http://127.0.0.1:{bound.getsockname()[1]}")
