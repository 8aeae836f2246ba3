"""Bounds on what a request may bring: the size of its body, how long it may keep us waiting for it and, if the endpoint
says so, the model it names."""

from __future__ import annotations

import asyncio
import json
import math
from collections import deque
from collections.abc import Callable
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sglang_serve.args import BODY_SECONDS
from sglang_serve.auth import is_open
from sglang_serve.replies import error_body, readable, send_json

# Of a body where nobody is asked for a key. Nothing there wants one, and native answers as without it.
OPEN_BYTES: Final = 16_384
# Routes whose JSON body names a model. SageMaker's /invocations is a chat completion.
MODEL_PREFIXES = ("/v1/", "/invocations")


class _RefusedError(Exception):
    """A body that is not taken: the status of the answer, and what it says."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message


class BodyLimitMiddleware:
    """413 for a body over `max_bytes()`: at once if Content-Length says so, else as soon as the bytes say so. 408 for
    one of which nothing comes any more: behind HAProxy nobody sees that its client has gone.

    Nothing else bounds a body: neither SGLang, nor Serve, nor its HAProxy. It is read before the app is called: Serve
    reads on while the app does something else, and keeps all of it. The bytes count, whatever length was declared.
    """

    def __init__(self, app: ASGIApp, max_bytes: Callable[[], int]) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        try:
            given = await self._bounded(scope, receive)
        except _RefusedError as refused:
            said = error_body(scope["path"], refused.status, refused.message)
            return await send_json(readable(scope, send), refused.status, said)
        return await self._app(scope, given, send)

    async def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        limit = self._max_bytes()
        too_large = f"the request body is larger than {limit} bytes (spec.api.limits.maxBodyBytes)"
        if is_open(scope) and limit > OPEN_BYTES:
            limit = OPEN_BYTES
            too_large = f"the request body is larger than {limit} bytes, the most where no key is asked for"
        if _declared_length(scope) > limit:
            raise _RefusedError(413, too_large)
        return _replay(await _read(receive, limit, too_large), receive) if has_body(scope) else receive


def has_body(scope: Scope) -> bool:
    """Whether a body comes with this request."""
    headers = Headers(scope=scope)
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


def _declared_length(scope: Scope) -> int:
    value = Headers(scope=scope).get("content-length", "")
    return int(value) if value.isdecimal() else 0


class KnownModelMiddleware:
    """OpenAI's 404 for a model that is not served, where spec.api.unknownModel is NotFound.

    The body is read whole before the app sees it (bounded by BodyLimitMiddleware) and handed on unchanged. What is not
    JSON, or names no model, is the app's to judge.
    """

    def __init__(self, app: ASGIApp, enabled: Callable[[], bool], is_served: Callable[[str], bool]) -> None:
        self._app = app
        self._enabled = enabled
        self._is_served = is_served

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if not self._applies(scope):
            return await self._app(scope, receive, send)
        messages = await _read(receive)
        model = _named_model(messages[0].get("body", b""))
        if model is None or self._is_served(model):
            return await self._app(scope, _replay(messages, receive), send)
        return await send_json(readable(scope, send), 404, unknown_model_body(scope["path"], model))

    def _applies(self, scope: Scope) -> bool:
        if scope["type"] != "http" or scope["method"] != "POST" or not self._enabled():
            return False
        is_json = "json" in Headers(scope=scope).get("content-type", "")
        return is_json and scope["path"].startswith(MODEL_PREFIXES)


def unknown_model_body(path: str, model: str) -> dict[str, object]:
    """What OpenAI's API answers for a model that the caller cannot use; Anthropic's clients get their own shape."""
    message = f"The model `{model}` does not exist or you do not have access to it."
    if path.startswith("/v1/messages"):
        return error_body(path, 404, message)
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": "model_not_found"}}


async def _read(receive: Receive, limit: float = math.inf, too_large: str = "") -> deque[Message]:
    """A whole body as one message, or what came of it until the client left. Raises _RefusedError."""
    try:
        async with asyncio.timeout(BODY_SECONDS) as patience:
            return await _joined(_watched(receive, patience), limit, too_large)
    except TimeoutError:
        raise _RefusedError(408, f"nothing more of the request body came for {BODY_SECONDS} seconds") from None


async def _joined(receive: Receive, limit: float, too_large: str) -> deque[Message]:
    """Not the messages as they come: one of a single byte takes 250 of them. A whole one is handed on as it is."""
    body = bytearray()
    while (message := await receive())["type"] == "http.request":
        piece, more = message.get("body", b""), message.get("more_body", False)
        if len(body) + len(piece) > limit:
            raise _RefusedError(413, too_large)
        if not body and not more:
            return deque([message])
        body += piece
        if not more:
            return deque([_part(body, more=False)])
    return deque([_part(body, more=True), message])


def _watched(receive: Receive, patience: asyncio.Timeout) -> Receive:
    """Begins to wait anew when something has come; not with each byte, for a loop keeps timers that nobody needs."""
    clock = asyncio.get_running_loop().time
    begun = clock()

    async def next_message() -> Message:
        nonlocal begun
        message = await receive()
        if clock() - begun > BODY_SECONDS / 10:
            begun = clock()
            patience.reschedule(begun + BODY_SECONDS)
        return message

    return next_message


def _part(body: bytearray, *, more: bool) -> Message:
    return {"type": "http.request", "body": bytes(body), "more_body": more}


def _replay(messages: deque[Message], receive: Receive) -> Receive:
    """Takes them away: an answer may take long, and nobody needs its question meanwhile."""

    async def next_message() -> Message:
        return messages.popleft() if messages else await receive()

    return next_message


def _named_model(body: bytes) -> str | None:
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        return None
    model = request.get("model") if isinstance(request, dict) else None
    return model if isinstance(model, str) else None
