"""Names that hold something else: the claim of somebody else, and pods of an earlier endpoint of the same name."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import pytest
from apiserver.interference import gone, hold, of_revision, release, status_of
from apiserver.passes import until
from apiserver.rollouts import SECONDS, Object, Stage, stage
from apiserver.test_conditions import said
from apiserver.test_ownership import without_status

from sglang_operator.cluster.metadata import is_terminating, name_of
from sglang_operator.cluster.paths import CLAIM, ENDPOINT, POD, RAY_CLUSTER, RAY_SERVICE, RECORD
from sglang_operator.cluster.snapshot import take_snapshot
from sglang_operator.cluster.types import Key
from sglang_operator.render import names

if TYPE_CHECKING:
    from localcluster import ControlPlane

URI: Final = "hf://HuggingFaceTB/SmolLM2-135M-Instruct"
CACHE: Final = "smollm2-cache"
CACHED: Final[Object] = {"uri": URI, "cache": {}}
Run = Callable[[Callable[[Stage], Awaitable[None]]], None]


@pytest.fixture
def run(control_plane: ControlPlane) -> Run:
    async def main(body: Callable[[Stage], Awaitable[None]]) -> None:
        async with stage(control_plane.kubeconfig) as on:
            await body(on)

    return lambda body: asyncio.run(main(body))


async def make_claim(on: Stage) -> Object:
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "100Gi"}}}
    body = {"apiVersion": "v1", "kind": CLAIM.name, "metadata": {"name": CACHE}, "spec": spec}
    return await on.api.create(CLAIM.of(on.on.namespace), body)


def test_a_claim_of_somebody_else_is_not_mounted(run: Run) -> None:
    async def body(on: Stage) -> None:
        before = await make_claim(on)
        key = await on.on.create(model=CACHED)
        await on.on.settle(key)
        found = await on.on.condition(key, "Progressing")
        assert (found["status"], found["reason"]) == ("False", "NameTaken")
        assert f"{CACHE} exists" in found["message"]
        assert "spec.model.cache.claimName" in found["message"]
        assert [await on.on.objects(kind) for kind in (RAY_SERVICE, RECORD)] == [[], []]
        after = await on.api.get(CLAIM.of(on.on.namespace, CACHE))
        assert without_status(after) == without_status(before)
        assert "ownerReferences" not in after["metadata"]
        await on.on.edit(key, model={"cache": {"claimName": CACHE}})
        await on.serve(key)
        assert (await on.on.condition(key, "Progressing"))["reason"] == "RolloutComplete"

    run(body)


def test_a_claim_that_was_replaced_does_not_end_what_serves(run: Run) -> None:
    """Its own pods hold it; what is restored is what clients had."""

    async def body(on: Stage) -> None:
        key = await on.on.create(model=CACHED)
        name = await on.serve(key)
        theirs = {"app": "redis", names.MANAGED_BY: None, names.ENDPOINT: None}
        await on.api.patch(CLAIM.of(on.on.namespace, CACHE), {"metadata": {"labels": theirs}})
        on.outages = True
        await gone(on, name)
        await said(on, key, "Progressing", "NameTaken")
        await on.on.settle(key)
        assert await on.names(RAY_SERVICE.plural) == [name]
        assert (await on.on.condition(key, "Progressing"))["reason"] == "NameTaken"

    run(body)


def test_a_claim_of_somebody_else_keeps_what_serves_from_nothing(run: Run) -> None:
    async def body(on: Stage) -> None:
        key = await on.on.create()
        name = await on.serve(key)
        await make_claim(on)
        await on.on.edit(key, model=CACHED)
        await said(on, key, "Progressing", "NameTaken")
        assert await on.names(RAY_SERVICE.plural) == [name]
        on.outages = True
        await gone(on, name)
        await on.on.settle(key)
        assert await on.names(RAY_SERVICE.plural) == [name], "it is made again, whatever is asked for next"
        await on.on.edit(key, model={"cache": {"claimName": CACHE}})
        await on.until(lambda: is_another(on, key, name), key)

    run(body)


async def is_another(on: Stage, key: Key, name: str) -> bool:
    return await on.selected(key) != name


async def only_goes(on: Stage, name: str) -> bool:
    """The garbage collector was here, and pods that somebody holds are left."""
    objects = [one for kind in (RAY_SERVICE, RAY_CLUSTER) for one in await of_revision(on, kind, name)]
    pods = await of_revision(on, POD, name)
    return not objects and bool(pods) and all(map(is_terminating, pods)) and not await on.on.objects(RECORD)


def test_the_ray_cluster_that_an_earlier_endpoint_left_with_redis_is_seen(run: Run) -> None:
    """KubeRay ends its pods before the job that empties Redis: nothing else may be left of it then."""
    head = {"rayStartParams": {}, "template": {"spec": {"containers": [{"name": "head", "image": "none"}]}}}
    left = {"apiVersion": "ray.io/v1", "kind": "RayCluster", "spec": {"suspend": True, "headGroupSpec": head}}

    async def body(on: Stage) -> None:
        key = await on.on.create(highAvailability={"redis": {"address": "redis:6379"}})
        labels = {names.ENDPOINT: key.name, names.REVISION: "r1"}
        await on.api.create(RAY_CLUSTER.of(key.namespace), {**left, "metadata": {"name": "r1-x", "labels": labels}})
        seen = await take_snapshot(on.api, key, await on.api.get(ENDPOINT.of(*key)))
        assert [name_of(one) for one in seen.ray_clusters] == ["r1-x"]

    run(body)


def test_an_endpoint_that_is_made_again_waits_for_the_pods_of_the_earlier_one(run: Run) -> None:
    async def body(on: Stage) -> None:
        key = await on.on.create()
        name = await on.serve(key)
        left = [POD.of(key.namespace, name_of(pod)) for pod in await of_revision(on, POD, name)]
        for path in left:
            await hold(on, path)
        on.outages = True
        await on.api.delete(ENDPOINT.of(*key))
        await until(lambda: only_goes(on, name), SECONDS)
        await on.on.create()
        await on.on.settle(key)
        assert await on.names(RAY_SERVICE.plural) == []
        assert (await on.on.condition(key, "Progressing"))["reason"] == "WaitingForOldPods"
        for path in left:
            await release(on, path)
        assert await on.serve(key) == name
        assert (await status_of(on, key))["observedGeneration"] == 1

    run(body)
