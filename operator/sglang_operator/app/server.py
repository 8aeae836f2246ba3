"""/healthz, /readyz and /metrics."""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

log: Final = logging.getLogger(__name__)

Trouble = Callable[[], str]
Handler = Callable[[web.Request], Awaitable[web.Response]]
CLOSE_SECONDS: Final = 0.5


class HttpServer:
    """Answers probes and scrapes. `trouble` says what is wrong, "" if nothing is.

    Ready means healthy, also for one that waits for the lease: a rollout of the operator would hang otherwise.
    """

    def __init__(self, port: int, *, trouble: Trouble, metrics: Callable[[], bytes]) -> None:
        self._port = port
        app = web.Application()
        app.router.add_get("/healthz", _probe(trouble))
        app.router.add_get("/readyz", _probe(trouble))
        app.router.add_get("/metrics", _scrape(metrics))
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=CLOSE_SECONDS)

    async def start(self) -> int:
        """Listen on every address. Returns the port. Raises OSError if it is taken."""
        await self._runner.setup()
        listening = _listen(self._port)
        await web.SockSite(self._runner, listening).start()
        port: int = listening.getsockname()[1]
        log.info("health and metrics on port %d", port)
        return port

    async def stop(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()


def _listen(port: int) -> socket.socket:
    """One socket for IPv4 and IPv6: two would get two ports where any will do."""
    is_dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if is_dual else socket.AF_INET
    return socket.create_server(("", port), family=family, dualstack_ipv6=is_dual)


def _probe(trouble: Trouble) -> Handler:
    async def answer(_request: web.Request) -> web.Response:
        found = trouble()
        status = HTTPStatus.SERVICE_UNAVAILABLE if found else HTTPStatus.OK
        return web.Response(text=f"{found or 'ok'}\n", status=status)

    return answer


def _scrape(metrics: Callable[[], bytes]) -> Handler:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=metrics(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return answer
