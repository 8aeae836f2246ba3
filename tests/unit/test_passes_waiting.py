"""What waits for Kueue: it is told why."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from unit.small_cluster import SmallCluster

from sglang_operator.cluster.metadata import stamp

Body = Callable[[SmallCluster], Coroutine[Any, Any, None]]


def play(cluster: SmallCluster, body: Body) -> None:
    asyncio.run(body(cluster))


def test_a_suspended_ray_cluster_waits_for_capacity() -> None:
    """Kueue admits it when its queue has the quota."""

    async def body(on: SmallCluster) -> None:
        await on.serve()
        on.edit(restartToken="b")
        await on.settle()
        on.kuberay(pods=False, suspend=True)
        await on.settle(60)
        found = on.condition("Progressing")
        assert found["reason"] == "WaitingForCapacity"
        assert "the Kueue queue has not admitted it" in found["message"]
        await on.settle(900)
        assert on.condition("Degraded")["reason"] == "NoCapacity"

    play(SmallCluster(scheduling={"queueName": "q"}), body)


def test_a_cluster_that_loses_its_quota_waits_since_then() -> None:
    async def body(on: SmallCluster) -> None:
        await on.serve()
        on.edit(restartToken="b")
        await on.settle()
        on.kuberay(pods=False, suspend=True)
        await on.settle(2000)
        cluster = on.ray_cluster(on.revisions()[-1])
        taken = {"type": "RayClusterSuspended", "status": "True", "lastTransitionTime": stamp(on.now)}
        cluster["status"]["conditions"] = [taken]
        await on.settle()
        assert on.condition("Progressing")["reason"] == "WaitingForCapacity"

    play(SmallCluster(scheduling={"queueName": "q"}), body)
