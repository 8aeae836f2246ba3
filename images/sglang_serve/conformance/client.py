"""A client of the server under test."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

from sglang_serve.conformance.config import NAME
from sglang_serve.conformance.outcome import Failed

SECONDS = 120  # without a byte
DONE = "[DONE]"
COUNTED_TOKENS = 64  # of the stream whose speed is measured


class Client:
    """Asks with one key. Each request has its own connection: closing it is what a client does that goes away."""

    def __init__(self, url: str, key: str = "") -> None:
        self._http = httpx.Client(
            base_url=url,
            headers={"authorization": f"Bearer {key}"} if key else {},
            timeout=SECONDS,
            limits=httpx.Limits(max_keepalive_connections=0),
            trust_env=False,  # a proxy of the environment does not reach this machine's own ports
        )

    def request(self, method: str, path: str, body: Any = None, **more: Any) -> httpx.Response:
        """The whole answer; `body` is sent as JSON, or as it is if it is text."""
        content = {"content": body} if isinstance(body, str) else {"json": body} if body is not None else {}
        return self._http.request(method, path, **content, **more)

    def value(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of a successful answer; raises Failed for any other."""
        response = self.request(method, path, body)
        if not response.is_success:
            raise Failed(f"{method} {path} answered {response.status_code}: {response.text[:300]}")
        return response.json()

    @contextmanager
    def stream(self, body: Mapping[str, Any]) -> Iterator[Iterator[str]]:
        """The data of a streamed chat completion, event by event; leaving the block closes the connection."""
        request = {**body, "stream": True}
        with self._http.stream("POST", "/v1/chat/completions", json=request) as response:
            if not response.is_success:
                raise Failed(f"a stream answered {response.status_code}: {response.read()[:300]!r}")
            yield (line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: "))

    def running(self) -> int:
        """How many requests the schedulers work on now."""
        loads = self.value("GET", "/v1/loads")["loads"]
        return sum(int(load["num_running_reqs"]) for load in loads)


def chat(prompt: str, tokens: int, **more: Any) -> dict[str, Any]:
    """A chat completion of exactly `tokens` tokens."""
    return {
        "model": NAME,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": True,
        **more,
    }


def tokens_per_second(client: Client) -> float:
    """How fast one stream runs, its first token included: on a busy machine this client may wait and then find all of
    them at once, and an engine is never faster than what is counted from the request on.
    """
    began = time.monotonic()
    with client.stream(chat("Count.", COUNTED_TOKENS)) as events:
        for _ in events:
            pass
    return COUNTED_TOKENS / (time.monotonic() - began)


def finish_reason(events: list[str]) -> str | None:
    """Of a streamed answer: that of the last event which has one."""
    reasons = [choice["finish_reason"] for event in events if event != DONE for choice in json.loads(event)["choices"]]
    return next((str(reason) for reason in reversed(reasons) if reason), None)
