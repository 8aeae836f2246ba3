"""The Serve deployment of the serving image: SGLang's own HTTP app over one engine per replica."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from ray import serve

from sglang_serve import args
from sglang_serve.replica import Replica

if TYPE_CHECKING:
    from fastapi import FastAPI


@serve.deployment(name=args.DEPLOYMENT)
@serve.ingress()
class SGLangServer:
    """One replica. Serve calls the methods; what they do is in `Replica`."""

    async def __init__(self, wire: dict[str, Any]) -> None:
        replica = serve.get_replica_context().replica_id.unique_id
        self._replica = Replica(args.serve_args(wire), replica, os.environ)
        await self._replica.start()

    def __serve_build_asgi_app__(self) -> FastAPI:
        return self._replica.build_app()

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Take new LiveArgs, without a restart."""
        self._replica.reconfigure(args.live_args(user_config))

    async def check_health(self) -> None:
        """Raise if the engine is hung; Serve then replaces this replica."""
        await self._replica.check_health()

    async def __del__(self) -> None:
        await asyncio.to_thread(self._replica.stop)


def build(wire: dict[str, Any]) -> serve.Application:
    """The application of IMPORT_PATH: `wire` is `to_wire(ServeArgs)`. Wrong args raise here, before anything starts."""
    args.serve_args(wire)
    return SGLangServer.bind(wire)  # type: ignore[no-any-return]
