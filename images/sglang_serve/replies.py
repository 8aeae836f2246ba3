"""Answers that our middleware gives itself, in the error shapes of the pinned SGLang's own handlers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.types import Send

# As http_server.py's HTTPException handler: Anthropic's clients, OpenAI's Responses clients and all others differ.
_ANTHROPIC_TYPES = {403: "permission_error", 404: "not_found_error", 413: "request_too_large"}


async def send_json(send: Send, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
    """One whole JSON response."""
    content = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
    fields = {"content-type": "application/json", "content-length": str(len(content)), **(headers or {})}
    raw = [(name.encode(), value.encode()) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": content})


def error_body(path: str, status: int, message: str) -> dict[str, Any]:
    """The error body that SGLang itself would send on this path."""
    phrase = HTTPStatus(status).phrase
    if path.startswith("/v1/messages"):
        return {"type": "error", "error": {"type": _ANTHROPIC_TYPES.get(status, "api_error"), "message": message}}
    if path.startswith("/v1/responses"):
        return {"error": {"message": message, "type": phrase, "param": None, "code": status}}
    return {"object": "error", "message": message, "type": phrase, "param": None, "code": status}
