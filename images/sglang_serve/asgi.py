"""Puts our middleware around SGLang's app: credit, report, request log, keys, body limit, fan-out, known models,
endings, from the outside in.

Pure ASGI throughout: Starlette's BaseHTTPMiddleware hides a client's disconnect from the app, and its generation would
run on. The replica calls `install` as the last step before Serve runs the app's lifespan: Starlette builds its stack
then and takes no middleware afterwards.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from sglang_serve import credit, report, uncounted
from sglang_serve.args import LiveArgs
from sglang_serve.auth import AuthMiddleware, Policy, rings_from
from sglang_serve.endings import EndWithBodyMiddleware
from sglang_serve.fan_out import Broadcast, FanOutMiddleware
from sglang_serve.headers import DropUnreadableMiddleware
from sglang_serve.hold import HoldMiddleware
from sglang_serve.limits import BodyLimitMiddleware, KnownModelMiddleware
from sglang_serve.request_log import Origin, RequestLogMiddleware

if TYPE_CHECKING:
    from starlette.applications import Starlette

# Ray Serve obeys this request header before our app is called: it would stop watching whether the client is there.
DISCONNECT_DISABLED = "x-request-disconnect-disabled"


@dataclass(frozen=True)
class Context:
    """What the middleware has to know. `live` is asked per request, so that `reconfigure` takes effect at once."""

    origin: Origin
    policy: Policy
    live: Callable[[], LiveArgs]
    is_served: Callable[[str], bool]  # model names, and adapters'
    write: Callable[[str], None]  # takes one line of the request log, without a newline
    replica: report.Replica  # answers /-/replica
    broadcast: Broadcast  # calls all replicas, for /-/admin/


def install(app: Starlette, context: Context) -> None:
    """Add the middleware to the app. The last one added is the outermost: the log also has what the others refuse."""
    app.add_middleware(EndWithBodyMiddleware, ends_with_client=lambda scope: _ends_with_client(context.policy, scope))
    app.add_middleware(
        KnownModelMiddleware,
        enabled=lambda: context.live().unknown_model == "NotFound",
        is_served=context.is_served,
    )
    app.add_middleware(FanOutMiddleware, broadcast=context.broadcast)
    app.add_middleware(BodyLimitMiddleware, max_bytes=lambda: context.live().max_body_bytes)
    app.add_middleware(AuthMiddleware, policy=context.policy)
    app.add_middleware(RequestLogMiddleware, origin=context.origin, write=context.write)
    app.add_middleware(report.ReportMiddleware, replica=context.replica)
    app.add_middleware(credit.GiveCreditMiddleware)


def _ends_with_client(policy: Policy, scope: Scope) -> bool:
    """Not an order to the engine; nor a health check, whose request SGLang itself forgets at its end only."""
    return not (policy.is_admin(scope) or scope["path"] in report.UNCOUNTED)


def find_inference_first(app: Starlette) -> None:
    """Move the routes of inference before all others. Every request looks for its route from the first one on, and Ray
    Serve looks once more, for the route's name: behind SGLang's sixty others that is 0.06 ms each time.

    Only paths without parameters move, and keep their order. tests/engine/private_names.py sees to it that none of them
    is answered by a route that is passed over.
    """
    app.router.routes.sort(key=lambda route: not _is_inference(getattr(route, "path", None) or ""))


def _is_inference(path: str) -> bool:
    return path == "/generate" or (path.startswith("/v1/") and "{" not in path)


def on_startup(app: Starlette, begun: Callable[[], None], failed: Callable[[Exception], Awaitable[Exception]]) -> None:
    """Call `begun` once the app's own lifespan has begun. If it raises instead, raise what `failed` makes of that."""
    native = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[Any]:
        async with AsyncExitStack() as stack:
            try:
                state = await stack.enter_async_context(native(app))
            except Exception as error:  # noqa: BLE001 - whatever it was gets a reason
                raise await failed(error) from None
            begun()
            yield state

    app.router.lifespan_context = lifespan


class DropHeaderMiddleware:
    """Removes a header from every request."""

    def __init__(self, app: ASGIApp, name: str) -> None:
        self._app = app
        self._name = name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] in ("http", "websocket"):
            del MutableHeaders(scope=scope)[self._name]
        await self._app(scope, receive, send)


def serve_middlewares() -> list[Middleware]:
    """What Ray Serve puts before its own handling (RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH names this function), the
    innermost first."""
    hold = Middleware(HoldMiddleware, rings=rings_from(os.environ))
    ours = [Middleware(uncounted.UncountedMiddleware), Middleware(credit.TakeCreditMiddleware)]
    drop = Middleware(DropHeaderMiddleware, name=DISCONNECT_DISABLED)
    return [*ours, drop, Middleware(DropUnreadableMiddleware), hold]
