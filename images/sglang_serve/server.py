"""The Ray Serve application of the serving image: one SGLang engine per replica, behind SGLang's own HTTP app."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import ray
from ray import serve

from sglang_serve import args
from sglang_serve.commit import RayStore
from sglang_serve.fan_out import Request
from sglang_serve.followers import Followers
from sglang_serve.replica import Replica

if TYPE_CHECKING:
    from fastapi import FastAPI


class SGLangServer:
    """The deployment: what Ray Serve calls, and `Replica` does."""

    async def __init__(self, wire: dict[str, Any]) -> None:  # type: ignore[misc]  # Serve awaits it
        context = serve.get_replica_context()
        name = context.replica_id.unique_id
        group = ray.util.get_current_placement_group()  # only a replica on several nodes has one
        others = Followers(wire, name, group) if group else None
        node = ray.util.get_node_ip_address()
        asked = args.serve_args(wire)
        # `reconfigure` comes when the model has been loaded, and which commit to load is known now.
        live = args.live_args(context._deployment_config.user_config)
        self._replica = Replica(
            asked, name, os.environ, node, others=others, broadcast=ask_all_replicas, commits=RayStore(), live=live
        )
        await self._replica.start()

    def __serve_build_asgi_app__(self) -> FastAPI:
        return self._replica.build_app()

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Take new LiveArgs without a restart."""
        await self._replica.reconfigure(args.live_args(user_config))

    async def administer(self, request: Request) -> dict[str, Any]:
        """What `ask_all_replicas` calls: an admin request, in this replica."""
        return await self._replica.administer(request)

    async def check_health(self) -> None:
        """Raise if the engine hangs; after three times Serve replaces the replica."""
        await self._replica.check_health()

    def __del__(self) -> None:  # Serve calls it when the last request is over; Python later once more
        if replica := getattr(self, "_replica", None):
            replica.stop()


async def ask_all_replicas(request: Request) -> Sequence[Any]:
    """`administer` of every replica that runs, this one among them; an exception in place of an answer."""
    # It asks Serve's controller and waits, and this loop has the streams: a head that is away must not stop them.
    app = serve.get_replica_context().app_name
    handle = await asyncio.to_thread(serve.get_deployment_handle, args.DEPLOYMENT, app)
    answers: Sequence[Any] = await handle.broadcast("administer", request).results_async(return_exceptions=True)
    return answers


def build(wire: dict[str, Any]) -> Any:
    """The Serve application of IMPORT_PATH; `wire` is `to_wire(ServeArgs)`. Wrong keys raise before anything starts."""
    args.serve_args(wire)
    return serve.deployment(name=args.DEPLOYMENT)(serve.ingress()(SGLangServer)).bind(wire)
