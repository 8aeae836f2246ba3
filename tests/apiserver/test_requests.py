"""How much a pass asks of the API server: with a thousand endpoints that is what everybody waits for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from apiserver.passes import passes

from sglang_operator.cluster.paths import RAY_SERVICE

if TYPE_CHECKING:
    from apiserver.conftest import ControlPlane

FIRST = 8  # reads five times, then writes record, RayService and status
SETTLED = 11


def test_eight_requests_make_a_ray_service_and_a_look_takes_eleven(control_plane: ControlPlane) -> None:
    async def main() -> None:
        async with passes(control_plane.kubeconfig) as on:
            key, operator = await on.create(), on.operator()
            on.asked.clear()
            await operator.reconcile(key)
            first = list(on.asked)
            assert await on.one(RAY_SERVICE)
            assert len(first) <= FIRST, first
            await on.settle(key, operator)
            on.asked.clear()
            await operator.reconcile(key)
            assert len(on.asked) <= SETTLED, on.asked

    asyncio.run(main())
