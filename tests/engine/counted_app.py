"""A Serve application without an engine, put together as `sglang_serve.server` is. Runs in the engine environment.

Its /health takes a second, as SGLang's; of its websocket it takes nothing until `/go` is asked.
"""

from __future__ import annotations

import asyncio
from typing import Any

from ray import serve
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from sglang_serve import credit, uncounted
from sglang_serve.report import PATH


class Counted:
    """The deployment."""

    def __init__(self) -> None:
        self._go = asyncio.Event()
        self._taken: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def __serve_build_asgi_app__(self) -> Starlette:
        http = {PATH: self._report, "/health": self._health, "/go": self._start, "/taken": self._count}
        routes = [Route(path, endpoint) for path, endpoint in http.items()]
        app = Starlette(routes=[*routes, WebSocketRoute("/ws", self._take)])
        app.add_middleware(credit.GiveCreditMiddleware)
        uncounted.answer_with(app)
        return app

    async def _report(self, _request: Request) -> PlainTextResponse:
        """What the runner waits for."""
        return PlainTextResponse("")

    async def _health(self, _request: Request) -> PlainTextResponse:
        await asyncio.sleep(1)
        return PlainTextResponse("healthy")

    async def _start(self, _request: Request) -> PlainTextResponse:
        self._go.set()
        return PlainTextResponse("")

    async def _count(self, _request: Request) -> PlainTextResponse:
        """Of bytes, until the client has left."""
        return PlainTextResponse(str(await self._taken))

    async def _take(self, socket: WebSocket) -> None:
        await socket.accept()
        await self._go.wait()
        taken = 0
        try:
            while True:
                taken += len(await socket.receive_bytes())
        except WebSocketDisconnect:
            self._taken.set_result(taken)


def build(_: dict[str, Any]) -> serve.Application:
    """What `import_path` names."""
    application: serve.Application = serve.deployment(name="SGLangServer")(serve.ingress()(Counted)).bind()
    return application
