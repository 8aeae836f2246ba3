"""Answers that our middleware gives itself, in the error shapes of the pinned SGLang's own handlers."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Scope, Send

# As http_server.py's HTTPException handler: Anthropic's clients, OpenAI's Responses clients and all others differ.
_ANTHROPIC_TYPES = {403: "permission_error", 404: "not_found_error", 413: "request_too_large"}


async def send_json(send: Send, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
    """One whole JSON response."""
    text = json.dumps(body, separators=(",", ":"), ensure_ascii=False)
    content = text.encode(errors="backslashreplace")  # half of a surrogate pair becomes JSON's \ud800
    fields = {"content-type": "application/json", "content-length": str(len(content)), **(headers or {})}
    raw = [(name.encode(), value.encode()) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": content})


def cors(app: ASGIApp) -> CORSMiddleware:
    """What SGLang's app has around it (http_server.py), so that pages of browsers may ask it."""
    return CORSMiddleware(app, allow_origins=["*"], allow_credentials=True, allow_methods=["*"], allow_headers=["*"])


_CORS = cors(Response())  # for what it adds to an answer


def readable(scope: Scope, send: Send) -> Send:
    """The way out for an answer that our middleware gives in place of SGLang's app. It is outside of the app's CORS: a
    page would learn neither status nor reason."""
    return functools.partial(_CORS.send, send=send, request_headers=Headers(scope=scope))


def error_body(path: str, status: int, message: str) -> dict[str, Any]:
    """The error body that SGLang itself would send on this path."""
    phrase = HTTPStatus(status).phrase
    if path.startswith("/v1/messages"):
        return {"type": "error", "error": {"type": _ANTHROPIC_TYPES.get(status, "api_error"), "message": message}}
    if path.startswith("/v1/responses"):
        return {"error": {"message": message, "type": phrase, "param": None, "code": status}}
    return {"object": "error", "message": message, "type": phrase, "param": None, "code": status}
