"""What status says of a lost head, by what the live RayCluster has: with Redis the replicas outlive it."""

from __future__ import annotations

from typing import Any

import pytest
from apiserver.passes import until
from apiserver.rollouts import Object, Stage
from apiserver.test_conditions import Run, run, said

from sglang_operator.cluster.metadata import is_terminating, name_of, stamp
from sglang_operator.cluster.paths import ENDPOINT, POD, RAY_CLUSTER
from sglang_operator.cluster.pods import is_worker
from sglang_operator.cluster.types import Key

__all__ = ["run"]
SECONDS = 60.0
REDIS: Object = {"highAvailability": {"redis": {"address": "redis.example:6379"}}}


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({}, "all replicas end within a minute. With spec.highAvailability.redis they outlive their head"),
        (REDIS, "until then replicas that run go on answering, and none is added or replaced"),
    ],
    ids=["alone", "with Redis"],
)
def test_a_lost_head_is_told_as_it_is(run: Run, spec: dict[str, Any], text: str) -> None:
    async def body(on: Stage, key: Key) -> None:
        await on.serve(key)
        await lose_head(on)
        assert text in (await said(on, key, "Degraded", "HeadLost"))["message"]
        assert (await on.on.condition(key, "Ready"))["status"] == "True", "the replica still answers"
        await let_go(on, key)

    run(body, **spec)


async def lose_head(on: Stage) -> None:
    """It is not Ready any more, as that of a node that went."""
    (head,) = [pod for pod in await on.api.list(POD.of(on.on.namespace)) if not is_worker(pod)]
    unready = [{"type": "Ready", "status": "False", "lastTransitionTime": stamp(on.clock())}]
    await on.api.patch(POD.of(on.on.namespace, name_of(head), "status"), {"status": {"conditions": unready}})


async def let_go(on: Stage, key: Key) -> None:
    """KubeRay would try for minutes to empty a Redis that is not there."""
    clusters = RAY_CLUSTER.of(on.on.namespace)

    async def are_deleted() -> bool:
        return all(map(is_terminating, await on.api.list(clusters)))

    await on.api.delete(ENDPOINT.of(*key))
    await until(are_deleted, SECONDS)
    for one in await on.api.list(clusters):
        await on.api.patch(RAY_CLUSTER.of(on.on.namespace, name_of(one)), {"metadata": {"finalizers": None}})
