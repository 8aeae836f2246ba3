"""A revision that serves gets nodes for half of a further replica: it gives them back, and what runs is not touched.

KubeRay is real; what Ray's autoscaler does with the bounds is played, as tests/engine/test_autoscaler_order.py has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import pytest
import yaml
from apiserver.interference import cluster_of, of_revision, status_of, workers
from apiserver.kubelet import NODE
from apiserver.rollouts import Object, Stage, stage
from apiserver.test_conditions import said

from sglang_operator.cluster.api import JSON_PATCH
from sglang_operator.cluster.capacity import NODES
from sglang_operator.cluster.metadata import is_terminating, name_of
from sglang_operator.cluster.paths import POD, RAY_CLUSTER, RAY_SERVICE
from sglang_operator.cluster.pods import has_node, is_worker
from sglang_operator.cluster.types import Key

if TYPE_CHECKING:
    from localcluster import ControlPlane

EACH: Final = 2
TIMEOUT: Final = 600
SPEC: Final[Object] = {"parallelism": {"nodes": EACH}, "upgrade": {"capacityTimeoutSeconds": TIMEOUT}}
Body = Callable[[Stage, Key, str], Awaitable[None]]


@pytest.fixture
def serving(control_plane: ControlPlane) -> Callable[[Body], None]:
    """Runs a body over an endpoint of one replica on two nodes that serves, with the name of its revision."""

    async def main(body: Body) -> None:
        async with stage(control_plane.kubeconfig) as on, node(on):
            on.kubelet.bind, on.kubelet.each = True, EACH
            key = await on.on.create(**SPEC)
            await body(on, key, await on.serve(key))

    return lambda body: asyncio.run(main(body))


@asynccontextmanager
async def node(on: Stage) -> AsyncIterator[None]:
    """What the pods are bound to: Kubernetes ends those of a node that is not there within a minute."""
    await on.api.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}})
    try:
        yield
    finally:
        await on.api.delete(f"{NODES}/{NODE}")


async def pods(on: Stage, revision: str) -> list[Object]:
    return [pod for pod in await of_revision(on, POD, revision) if is_worker(pod) and not is_terminating(pod)]


async def grow(on: Stage, key: Key, revision: str) -> tuple[list[str], str, str]:
    """To two replicas, with nodes for three pods: the pods that serve, the one too many, and the one without a node."""
    before = [name_of(pod) for pod in await pods(on, revision)]
    on.kubelet.room = 3
    await on.on.edit(key, replicas=2)

    async def is_half_placed() -> bool:
        found = await pods(on, revision)
        return len(found) == 2 * EACH and sum(map(has_node, found)) == on.kubelet.room and await is_told(on)

    await on.until(is_half_placed, key)
    new = {has_node(pod): name_of(pod) for pod in await pods(on, revision) if name_of(pod) not in before}
    return before, new[True], new[False]


async def is_told(on: Stage) -> bool:
    """The scheduler has said so."""
    return not await on.kubelet.play()


async def end(on: Stage, key: Key, revision: str, pod: str) -> None:
    """As Ray's autoscaler does, until KubeRay has ended it."""
    found = await cluster_of(on, revision)
    (group,) = found["spec"]["workerGroupSpecs"]
    fewer = min(len(await pods(on, revision)) - 1, group["maxReplicas"])
    changes = {"replicas": fewer, "scaleStrategy": {"workersToDelete": [pod]}}
    patch = [
        {"op": "add", "path": f"/spec/workerGroupSpecs/0/{name}", "value": value} for name, value in changes.items()
    ]
    await on.api.patch(RAY_CLUSTER.of(key.namespace, name_of(found)), patch, JSON_PATCH)

    async def is_gone() -> bool:
        return pod not in [name_of(one) for one in await of_revision(on, POD, revision)]

    await on.until(is_gone, key)


async def replicas_of_serve(on: Stage, revision: str) -> int:
    service = await on.api.get(RAY_SERVICE.of(on.on.namespace, revision))
    (application,) = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
    return int(application["deployments"][0]["autoscaling_config"]["max_replicas"])


async def until_bounds(on: Stage, key: Key, revision: str, fewest: int, most: int) -> None:
    """Of the RayCluster."""

    async def has_bounds() -> bool:
        return (await workers(on, revision))[1] == (fewest, most)

    await on.until(has_bounds, key)


@pytest.mark.parametrize("again", ["after a while", "with another number"])
def test_it_gives_them_back_and_tries_again(serving: Callable[[Body], None], again: str) -> None:
    async def body(on: Stage, key: Key, revision: str) -> None:
        before, idle, waiting = await grow(on, key, revision)
        assert await replicas_of_serve(on, revision) == 2
        on.clock.reach(on.clock() + TIMEOUT)
        await on.until(lambda: is_told_to_be_held(on, key), key)
        told = await on.on.condition(key, "Degraded")
        assert told["reason"] == "NoCapacity"
        assert f"{revision} is held to 1 of 2 replicas" in told["message"]
        assert "it is tried again at 2" in told["message"]
        assert await replicas_of_serve(on, revision) == 1
        await until_bounds(on, key, revision, EACH, EACH + 1)
        await end(on, key, revision, waiting)
        await on.on.settle(key)
        assert (await workers(on, revision))[1] == (EACH, EACH + 1), "a pod with a node is Ray's to end"
        await end(on, key, revision, idle)
        await until_bounds(on, key, revision, EACH, EACH)
        await on.on.settle(key)
        assert sorted(name_of(pod) for pod in await pods(on, revision)) == sorted(before)
        status = await status_of(on, key)
        assert (status["readyReplicas"], status["desiredReplicas"]) == (1, 2)
        await said(on, key, "Degraded", "NoCapacity")
        on.kubelet.room = None
        number = 3 if again == "with another number" else 2
        if number == 2:
            on.clock.reach(on.clock() + TIMEOUT)
        else:
            await on.on.edit(key, replicas=number)
        await until_bounds(on, key, revision, number * EACH, number * EACH)
        await said(on, key, "Degraded", "AsExpected")
        await on.until(lambda: has_ready(on, key, number), key)
        assert set(before) <= {name_of(pod) for pod in await pods(on, revision)}, "what served was touched"

    serving(body)


async def is_told_to_be_held(on: Stage, key: Key) -> bool:
    """Status says it in the pass after the one that has written it."""
    return "is held to" in (await on.on.condition(key, "Degraded"))["message"]


async def has_ready(on: Stage, key: Key, number: int) -> bool:
    return bool((await status_of(on, key)).get("readyReplicas") == number)


def test_without_a_whole_replica_all_pods_end_and_it_begins_anew(serving: Callable[[Body], None]) -> None:
    """A pod is lost and there is no node for another one: what is left of the replica can do nothing alone."""

    async def body(on: Stage, key: Key, revision: str) -> None:
        on.outages, on.engines.dead, on.kubelet.room = True, True, 1
        lost, kept = sorted(await pods(on, revision), key=lambda pod: pod["status"]["conditions"][0]["status"])
        unready = [{"type": "Ready", "status": "False", "lastTransitionTime": kept["metadata"]["creationTimestamp"]}]
        await on.api.patch(POD.of(key.namespace, name_of(kept), "status"), {"status": {"conditions": unready}})
        await on.api.delete(POD.of(key.namespace, name_of(lost)))

        async def is_half_placed() -> bool:
            found = await pods(on, revision)
            return len(found) == EACH and sum(map(has_node, found)) == 1 and await is_told(on)

        await on.until(is_half_placed, key)
        await on.on.settle(key)
        assert name_of(kept) in [name_of(pod) for pod in await pods(on, revision)]
        on.clock.reach(on.clock() + TIMEOUT)
        on.kubelet.room = 0

        async def is_anew() -> bool:
            found = await pods(on, revision)
            return len(found) == EACH and name_of(kept) not in map(name_of, found)

        await on.until(is_anew, key)
        on.engines.dead, on.kubelet.room = False, None
        await on.serve(key)
        assert await on.selected(key) == revision

    serving(body)
