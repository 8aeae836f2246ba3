"""A client that can leave in the middle, and looks at what the engine is doing."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import httpx
from waiting import wait_until


def requests_in_engine(url: str) -> int:
    """Running and queued, in the scheduler of the replica that answers."""
    loads = httpx.get(f"{url}/v1/loads", timeout=30).raise_for_status().json()
    return sum(rank["num_running_reqs"] + rank["num_waiting_reqs"] for rank in loads["loads"])


def answers(url: str) -> bool:
    """Whether a completion is answered now."""
    try:
        reply = httpx.post(f"{url}/v1/completions", json={"prompt": "hi", "max_tokens": 1}, timeout=5)
    except httpx.HTTPError:
        return False
    return reply.status_code == httpx.codes.OK


class Request:
    """One POST of JSON whose answer is left to come; `leave` breaks the connection.

    Header and body are sent apart, as most clients do.
    """

    def __init__(self, url: str, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        where = urlsplit(url)
        self._connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=60)
        header = {"Content-Type": "application/json", **(headers or {})}
        self._connection.request("POST", path, json.dumps(body), header)

    def status(self) -> int:
        """Of the answer, read to its end."""
        with self._connection.getresponse() as reply:
            reply.read()
            return reply.status

    def leave(self) -> None:
        """As a client that was killed."""
        self._connection.close()


class Stream:
    """A streaming completion that is read in the background, event by event. It breaks after `silence` seconds without
    one."""

    def __init__(self, url: str, silence: float = 120, **body: Any) -> None:
        self.events = 0
        self.last = ""
        self.error: Exception | None = None
        self._is_left = False
        self._silence = silence
        self._request = {"prompt": "once upon a time", "ignore_eos": True, "stream": True, **body}
        self._thread = threading.Thread(target=self._read, args=(f"{url}/v1/completions",), daemon=True)
        self._thread.start()
        wait_until(lambda: self.events > 0 or self.error is not None, 60, "the stream's first event")

    @property
    def is_running(self) -> bool:
        """Whether it has neither ended nor broken."""
        return self._thread.is_alive()

    def require_complete(self, seconds: float) -> None:
        """Wait for the end, and fail unless it was the regular one."""
        self._thread.join(seconds)
        assert not self.is_running, f"still running after {self.events} events"
        assert (self.error, self.last) == (None, "data: [DONE]"), f"broken after {self.events} events"

    def require_more(self, seconds: float) -> None:
        """Wait until it has come on by a few events."""
        before = self.events
        wait_until(lambda: self.events > before + 5 or not self.is_running, seconds, "the stream goes on")
        assert self.is_running, f"ended or broken after {self.events} events: {self.error or self.last}"

    def leave(self) -> None:
        """Break the connection; returns when it is broken."""
        self._is_left = True
        self._thread.join(30)
        assert not self.is_running

    def _read(self, url: str) -> None:
        try:
            with httpx.stream("POST", url, json=self._request, timeout=self._silence) as reply:
                reply.raise_for_status()
                for line in filter(None, reply.iter_lines()):
                    if self._is_left:
                        return
                    self.events += 1
                    self.last = line
        except httpx.HTTPError as error:
            self.error = error


def load(url: str, clients: int, seconds: float) -> None:
    """Keep the engine busy: so many clients, each with one long prompt after the other."""
    until = time.monotonic() + seconds

    def work() -> None:
        while time.monotonic() < until:
            with suppress(httpx.HTTPError):
                httpx.post(f"{url}/v1/completions", json={"prompt": "hi " * 400, "max_tokens": 64}, timeout=60)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
