"""What somebody, or KubeRay, does to the objects of an endpoint that serves: it is put back, and nothing restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest
from apiserver.rollouts import POLL, SECONDS, Object, Stage, stage
from waiting import PATIENCE

from sglang_operator.cluster.api import JSON_PATCH
from sglang_operator.cluster.metadata import name_of, notes_of
from sglang_operator.cluster.paths import BUDGET, POD, POLICY, RAY_CLUSTER, RAY_SERVICE, SERVICE, Kind
from sglang_operator.cluster.types import Key

if TYPE_CHECKING:
    from localcluster import ControlPlane

KUBERAY_VERSION = "ray.io/kuberay-version"  # KubeRay renews a RayCluster that another version of it made
Body = Callable[[Stage, Key], Awaitable[None]]
Run = Callable[[Body], None]


@pytest.fixture
def serving(control_plane: ControlPlane) -> Run:
    """Runs a body over an endpoint with two replicas that serve; its pods are the same afterwards."""

    async def main(body: Body) -> None:
        async with stage(control_plane.kubeconfig) as on:
            key = await on.on.create(replicas=2)
            await on.serve(key)
            before = await pods(on)
            await body(on, key)
            assert before <= await pods(on), "a pod was replaced"

    return lambda body: asyncio.run(main(body))


async def pods(on: Stage) -> set[str]:
    return {pod["metadata"]["uid"] for pod in await on.api.list(POD.of(on.on.namespace))}


def test_hand_edits_under_traffic_are_put_back(serving: Run) -> None:
    async def body(on: Stage, key: Key) -> None:
        wanted, revision = await on.objects(), await on.selected(key)
        mine = {"app": "mine"}
        edits: list[tuple[str, Object]] = [  # one at a time: putting one back must not hide the next
            (SERVICE.of(*key), {"selector": mine}),
            (SERVICE.of(*key), {"ports": [{"port": 80, "targetPort": 9}]}),
            (BUDGET.of(*key), {"selector": {"matchLabels": mine}}),
            (BUDGET.of(*key), {"minAvailable": 0}),
            (POLICY.of(*key), {"podSelector": {"matchLabels": mine}}),
            (POLICY.of(*key), {"ingress": []}),
            (RAY_SERVICE.of(key.namespace, revision), {"serveConfigV2": "applications: []"}),
        ]
        for path, spec in edits:
            await on.api.patch(path, {"spec": spec})
            await on.until(lambda: equals(on, wanted), key)
        assert await on.selected(key) == revision

    serving(body)


def test_what_somebody_adds_to_lists_goes(serving: Run) -> None:
    """An apply leaves entries of others in lists with keys."""

    async def body(on: Stage, key: Key) -> None:
        wanted, path = await on.objects(), RAY_SERVICE.of(key.namespace, await on.selected(key))
        (port,) = (await on.api.get(SERVICE.of(*key)))["spec"]["ports"]
        await on.api.patch(SERVICE.of(*key), {"spec": {"ports": [port, {"name": "more", "port": 81}]}})
        env = "/spec/rayClusterConfig/workerGroupSpecs/0/template/spec/containers/0/env/-"
        await on.api.patch(path, [{"op": "add", "path": env, "value": {"name": "MORE", "value": "1"}}], JSON_PATCH)
        await on.until(lambda: equals(on, wanted), key)
        await on.on.settle(key)

    serving(body)


async def equals(on: Stage, wanted: Object) -> bool:
    return await on.objects() == wanted


@pytest.mark.parametrize("kind", [SERVICE, BUDGET, POLICY], ids=lambda kind: kind.name)
def test_a_child_that_somebody_deletes_returns(serving: Run, kind: Kind) -> None:
    async def body(on: Stage, key: Key) -> None:
        wanted = await on.objects()
        on.outages = kind is SERVICE
        await on.api.delete(kind.of(*key))
        await on.until(lambda: equals(on, wanted), key)

    serving(body)


def test_another_version_of_kuberay_keeps_cluster_and_bounds(serving: Run) -> None:
    """It then copies the whole spec of the RayService, so bounds that only the RayCluster had would be lost."""

    async def body(on: Stage, key: Key) -> None:
        await on.on.edit(key, replicas=3)
        await on.until(lambda: has_bounds(on, (3, 3)), key)
        await on.serve(key)
        (before,) = await on.api.list(RAY_CLUSTER.of(key.namespace))
        version, name = notes_of(before)[KUBERAY_VERSION], name_of(before)
        path = RAY_CLUSTER.of(key.namespace, name)
        # KubeRay does so when Ray's dashboard says that Serve runs: only the active cluster is renewed.
        active = {"activeServiceStatus": {"rayClusterName": name}, "pendingServiceStatus": {"rayClusterName": ""}}
        status = RAY_SERVICE.of(key.namespace, await on.selected(key), "status")
        await on.api.patch(status, {"status": active})
        await on.api.patch(path, {"metadata": {"annotations": {KUBERAY_VERSION: "v1.0.0"}}})

        async with asyncio.timeout(SECONDS * PATIENCE):  # no pass meanwhile: one would put bounds back
            while notes_of(await on.api.get(path))[KUBERAY_VERSION] != version:  # noqa: ASYNC110 - KubeRay makes it true
                await asyncio.sleep(POLL)
        assert await has_bounds(on, (3, 3))
        await on.serve(key)
        (after,) = await on.api.list(RAY_CLUSTER.of(key.namespace))
        assert after["metadata"]["uid"] == before["metadata"]["uid"]
        assert await has_bounds(on, (3, 3))

    serving(body)


async def has_bounds(on: Stage, wanted: tuple[int, int]) -> bool:
    (cluster,) = await on.api.list(RAY_CLUSTER.of(on.on.namespace))
    (group,) = cluster["spec"]["workerGroupSpecs"]
    return (group["minReplicas"], group["maxReplicas"]) == wanted
