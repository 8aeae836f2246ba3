"""One JSON line per request. It says who asked what when and how long it took, never what was said."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sglang_serve.auth import KEY_NAME

CLIENT_GONE = 499  # nginx's status, and Serve's, for a client that left before the answer was complete
LONGEST_TEXT = 256  # of what the client chose itself: path and request id
TAIL_BYTES = 2048  # the usage object is at the end of a response

# The quote before a name inside generated text is escaped, so these match SGLang's own usage object only.
_TOKENS = {
    "prompt_tokens": re.compile(rb'"(?:prompt|input)_tokens":(\d+)'),
    "completion_tokens": re.compile(rb'"(?:completion|output)_tokens":(\d+)'),
}


@dataclass(frozen=True)
class Origin:
    """What every line of one replica begins with."""

    endpoint: str
    revision: str
    replica: str


@dataclass
class _Observed:
    """What is learnt of one request while its messages pass."""

    began: float
    status: int = 0
    is_stream: bool = False
    is_complete: bool = False
    first_byte: float | None = None
    tail: bytes = field(default=b"", repr=False)

    def see(self, message: Message, now: float) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.is_stream = Headers(raw=message.get("headers", [])).get("content-type", "").startswith("text/event")
        elif message["type"] == "http.response.body":
            self._see_body(message, now)
        elif message["type"] in ("websocket.accept", "websocket.close"):
            self.status = self.status or (101 if message["type"] == "websocket.accept" else 403)
            self.is_complete = True

    def _see_body(self, message: Message, now: float) -> None:
        body = message.get("body", b"")
        if body and self.first_byte is None:
            self.first_byte = now
        self.tail = body[-TAIL_BYTES:] if len(body) >= TAIL_BYTES else (self.tail + body)[-TAIL_BYTES:]
        self.is_complete = not message.get("more_body", False)


class RequestLogMiddleware:
    """Writes the line when the request is over, also when its client left; returns X-Request-Id if nobody else does."""

    def __init__(
        self, app: ASGIApp, origin: Origin, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._app = app
        self._origin = origin
        self._write = write
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        given = Headers(scope=scope).get("x-request-id", "")  # Serve sets one and returns it, before us
        request_id = given or uuid.uuid4().hex
        seen = _Observed(began=self._clock())

        async def observe(message: Message) -> None:
            seen.see(message, self._clock())
            if not given and message["type"] == "http.response.start":
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            await self._app(scope, receive, observe)
        except Exception:
            seen.status, seen.is_complete = 500, True  # Starlette's outermost layer answers it, after us
            raise
        finally:
            self._write(self._line(scope, request_id, seen))
        return None

    def _line(self, scope: Scope, request_id: str, seen: _Observed) -> str:
        now = self._clock()
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "event": "request",
            **vars(self._origin),
            "request_id": request_id[:LONGEST_TEXT],
            "key": scope.get(KEY_NAME, ""),
            "method": scope.get("method", "WEBSOCKET"),
            "path": scope["path"][:LONGEST_TEXT],  # without the query: it is the client's text
            "status": seen.status if seen.is_complete else CLIENT_GONE,
            "seconds": round(now - seen.began, 4),
            **_first_token(seen),
            **_tokens(seen),
        }
        return json.dumps(line, separators=(",", ":"))


def _first_token(seen: _Observed) -> dict[str, float]:
    """Time to the first token, where the response is a stream: its headers and first event wait for it."""
    if not seen.is_stream or seen.first_byte is None:
        return {}
    return {"ttft_seconds": round(seen.first_byte - seen.began, 4)}


def _tokens(seen: _Observed) -> dict[str, int]:
    """Token counts of the usage object, where the response ends with one (streams: if the client asked for it)."""
    usage = seen.tail.rpartition(b'"usage":{')[2] if b'"usage":{' in seen.tail else b""
    found = {name: pattern.search(usage) for name, pattern in _TOKENS.items()}
    return {name: int(match[1]) for name, match in found.items() if match}
