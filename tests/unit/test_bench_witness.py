"""The stream that has to live through an event, of the loads of bench/hitless.py and of the cluster tests."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cluster.actors import load
from cluster.load import WITNESS_TOKENS


class Server(ThreadingHTTPServer):
    """Answers with streams that end when `broken` is set."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.broken, self.ended = threading.Event(), threading.Event()
        self.witnesses = 0


class Handler(BaseHTTPRequestHandler):
    """A stream of as many tokens as are asked for, a hundred in a second."""

    server: Server

    def do_POST(self) -> None:
        tokens = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["max_tokens"]
        self.send_response(200)
        self.end_headers()
        self.server.witnesses += tokens == WITNESS_TOKENS
        try:
            for _ in range(tokens):
                if self.server.broken.wait(0.01):
                    break
                self.wfile.write(b"data: {}\n\n")
        finally:
            self.server.ended.set()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        threading.Thread(target=made.serve_forever).start()
        yield made
        made.shutdown()


def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_port}"


def test_it_runs_before_each_event_and_until_it_is_over(server: Server) -> None:
    with load(url(server), kept=0, fresh=0, long=0) as working:
        for number in (1, 2):
            with working.event():
                assert server.witnesses == number
            assert server.ended.wait(60), "its client ends it"
            server.ended.clear()
    assert (working.count.requests, working.count.clients, working.count.lost) == (2, 1, [])


def test_one_that_ends_in_the_event_fails_the_test(server: Server) -> None:
    with pytest.raises(AssertionError, match="did not live as long as the event: the stream ended before"):
        break_streams_in_an_event(server)


def break_streams_in_an_event(server: Server) -> None:
    with load(url(server), kept=0, fresh=0, long=0) as working, working.event():
        server.broken.set()
        assert server.ended.wait(60)
