"""Bounds on what a request may bring: the size of its body and, if the endpoint says so, the model it names."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sglang_serve.replies import error_body, send_json

# Routes whose JSON body names a model. SageMaker's /invocations is a chat completion.
MODEL_PREFIXES = ("/v1/", "/invocations")


class BodyLimitMiddleware:
    """413 for a body over `max_bytes()`: at once if Content-Length says so, else as soon as the bytes say so.

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
        limit = self._max_bytes()
        if _declared_length(scope) > limit:
            return await _refuse(scope, send, limit)
        if not has_body(scope):
            return await self._app(scope, receive, send)
        messages = await _read(receive, limit)
        if messages is None:
            return await _refuse(scope, send, limit)
        return await self._app(scope, _replay(messages, receive), send)


def has_body(scope: Scope) -> bool:
    """Whether a body comes with this request."""
    headers = Headers(scope=scope)
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


def _declared_length(scope: Scope) -> int:
    value = Headers(scope=scope).get("content-length", "")
    return int(value) if value.isdecimal() else 0


async def _refuse(scope: Scope, send: Send, limit: int) -> None:
    message = f"the request body is larger than {limit} bytes (spec.api.limits.maxBodyBytes)"
    await send_json(send, 413, error_body(scope["path"], 413, message))


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
        messages = await _read(receive) or deque()
        model = _named_model(b"".join(message.get("body", b"") for message in messages))
        if model is None or self._is_served(model):
            return await self._app(scope, _replay(messages, receive), send)
        return await send_json(send, 404, unknown_model_body(scope["path"], model))

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


async def _read(receive: Receive, limit: float = math.inf) -> deque[Message] | None:
    """The messages of a whole body, or until the client leaves; None once they are over `limit` bytes."""
    messages: deque[Message] = deque()
    while not messages or (messages[-1]["type"] == "http.request" and messages[-1].get("more_body", False)):
        messages.append(await receive())
        limit -= len(messages[-1].get("body", b""))
        if limit < 0:
            return None
    return messages


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
