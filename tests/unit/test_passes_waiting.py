"""What waits for KubeRay or for Kueue: it is told why, and a corrected spec goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from unit.small_cluster import SmallCluster

from sglang_operator.cluster.metadata import stamp
from sglang_operator.cluster.silence import SILENT_SECONDS, said_of

INVALID = {"type": "Ready", "status": "False", "reason": "ValidationFailed", "message": "RAY_REDIS_ADDRESS is set"}
LATE = SILENT_SECONDS + 10
Body = Callable[[SmallCluster], Coroutine[Any, Any, None]]


def play(cluster: SmallCluster, body: Body) -> None:
    asyncio.run(body(cluster))


@pytest.mark.parametrize("correction", ["c", ""], ids=["another spec", "back to what serves"])
def test_a_revision_of_which_kuberay_makes_nothing_does_not_block_its_correction(correction: str) -> None:
    async def body(on: SmallCluster) -> None:
        first = await on.serve()
        on.edit(restartToken="b")
        await on.settle()
        refused = on.revisions()[-1]
        on.ray_service(refused)["status"] = {"conditions": [INVALID]}
        await on.settle(LATE)
        found = on.condition("Progressing")
        assert (found["reason"], refused in on.revisions()) == ("KubeRaySilent", True)
        assert "RAY_REDIS_ADDRESS is set; correct the spec" in found["message"]
        on.edit(restartToken=correction)
        await on.settle(LATE)
        assert refused not in on.revisions()
        on.kuberay()
        for _ in range(4):
            await on.settle(30)
        assert on.condition("Progressing")["reason"] in ("Draining", "RolloutComplete")
        assert (on.status["serving"]["revision"] == first) == (not correction)

    play(SmallCluster(), body)


def test_while_kuberay_is_silent_what_it_made_stays() -> None:
    async def body(on: SmallCluster) -> None:
        first = await on.serve()
        on.edit(restartToken="b")
        await on.settle()
        on.kuberay(ready=False)
        second = on.revisions()[-1]
        on.edit(restartToken="c")
        on.ray_service(first)["metadata"]["deletionTimestamp"] = "2020-01-01T00:00:00Z"
        await on.settle(LATE)
        assert on.condition("Progressing")["reason"] == "KubeRaySilent"
        assert "look at the KubeRay operator" in on.condition("Progressing")["message"]
        assert second in on.revisions()

    play(SmallCluster(), body)


@pytest.mark.parametrize(
    ("waiting", "says"),
    [
        ({"status": {"conditions": [INVALID]}}, "it refuses RayService b: RAY_REDIS_ADDRESS"),
        ({"status": {"conditions": [{**INVALID, "reason": "Initializing"}]}}, "kubectl describe rayservice b"),
        ({}, "kubectl describe rayservice b"),
        ({"kind": "RayCluster"}, ""),
    ],
)
def test_what_is_known_of_why_kuberay_does_not_act(waiting: dict[str, Any], says: str) -> None:
    found = said_of([{"kind": "RayService", "metadata": {"name": "b"}, **waiting}])
    assert says in found
    assert bool(found) == bool(says)


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


def test_traffic_moves_to_no_fewer_replicas_than_the_lower_bound() -> None:
    """Ray patches `replicas` of a RayCluster only to start or end pods; the lower bound gives them, too."""

    async def body(on: SmallCluster) -> None:
        first = await on.serve()
        on.edit(scaling={"min": 4, "max": 8})
        await on.settle()
        on.kuberay()
        await on.settle(60)
        assert on.ray_cluster(first)["spec"]["workerGroupSpecs"][0]["replicas"] < 4
        assert on.status["desiredReplicas"] == 4
        on.edit(restartToken="b")
        await on.settle()
        second = on.revisions()[-1]
        on.kuberay(ready=False)
        for at, pod in on.server.objects.items():
            if at.endswith(f"/pods/{second}-worker-0"):
                pod["status"]["conditions"][1]["status"] = "True"
        await on.settle(10)
        assert on.status["serving"]["revision"] == first
        assert "1 of 4 replicas answer" in on.condition("Progressing")["message"]

    play(SmallCluster(scaling={"min": 1, "max": 8}), body)
