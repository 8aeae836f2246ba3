"""Checks and scrapes that Ray Serve does not count as requests.

SGLang's /health takes a second at least, and a replica that answers one each few minutes has requests in Serve's mean
of half a minute: an endpoint that may go to zero would stay awake for a load balancer that looks after it. So around a
replica these paths go to the app without Serve's handling, which knows no other way not to count. Keys, limits and
answers are the app's; what Serve adds is missing: the client's X-Request-ID in the answer, its metrics, its time-out.

The HTTP server that a replica ends with is Serve's all the same: it stops when the last answer is over, these too.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from sglang_serve.report import UNCOUNTED

_apps: list[ASGIApp] = []


def answer_with(app: ASGIApp) -> None:
    """Let this app answer them in this process: a replica has one."""
    _apps[:] = [app]


def _own_app() -> ASGIApp | None:
    return _apps[0] if _apps else None


class UncountedMiddleware:
    """Around Serve's handling. A process without an app, such as the head's proxy, has only that. Innermost, so that
    what others drop of a request is dropped here too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        direct = _own_app() if scope["type"] == "http" and scope["path"] in UNCOUNTED else None
        await (direct or self._app)(scope, receive, send)
