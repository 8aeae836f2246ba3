"""Request headers that Ray Serve reads before our app is called, and that end the request there."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

# It decodes their values as UTF-8, and answers 500 in plain text where that fails (2.60: replica.py, http_util.py,
# proxy.py). Natively nobody reads them.
READ_BY_SERVE = frozenset(
    {
        "serve-multiplexed-model-id",
        "traceparent",
        "tracestate",
        "x-request-id",
        "x-request-timeout-seconds",
        "x-session-id",
    }
)


class DropUnreadableMiddleware:
    """Removes those that Ray Serve cannot decode: the request goes on as if they had not been sent."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] in ("http", "websocket"):
            scope["headers"] = [(name, value) for name, value in scope["headers"] if not _is_unreadable(name, value)]
        await self._app(scope, receive, send)


def _is_unreadable(name: bytes, value: bytes) -> bool:
    if value.isascii():
        return False
    if name.decode("latin-1").lower().replace("_", "-") not in READ_BY_SERVE:  # it takes either sign for the other
        return False
    try:
        value.decode()
    except UnicodeDecodeError:
        return True
    return False
