"""What waits for KubeRay, for Kueue or for pods: it is told why, and a corrected spec goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import pytest
from apiserver.interference import cluster_of, hold, of_revision, release, status_of
from apiserver.passes import until
from apiserver.rollouts import SECONDS, Object, Stage, stage
from apiserver.test_conditions import said

from sglang_operator.cluster.metadata import is_terminating, name_of, stamp
from sglang_operator.cluster.pace import LOG_SECONDS
from sglang_operator.cluster.paths import POD, RAY_CLUSTER, RAY_SERVICE
from sglang_operator.cluster.pods import is_worker
from sglang_operator.cluster.silence import SILENT_SECONDS
from sglang_operator.cluster.types import Key

if TYPE_CHECKING:
    from localcluster import ControlPlane

LATE: Final = SILENT_SECONDS + 10
NO_CAPACITY_SECONDS: Final = 900
DEADLINE_SECONDS: Final = 900
# KubeRay makes no RayCluster of it: it is told by Ray's own variable of a Redis, and not by its field for one.
REDIS: Final[Object] = {"name": "RAY_REDIS_ADDRESS", "value": "redis:6379"}
REFUSED: Final[Object] = {"head": {"spec": {"containers": [{"name": "ray-head", "env": [REDIS]}]}}}
Body = Callable[[Stage, Key, str], Awaitable[None]]
Run = Callable[..., None]


@pytest.fixture
def serving(control_plane: ControlPlane) -> Run:
    """Runs a body over an endpoint with this spec that serves, with the name of its revision."""

    async def main(body: Body, spec: Object) -> None:
        async with stage(control_plane.kubeconfig) as on:
            key = await on.on.create(**spec)
            first = await on.serve(key)
            on.engines.loading = True
            await body(on, key, first)

    return lambda body, **spec: asyncio.run(main(body, spec))


async def later(on: Stage, seconds: float) -> None:
    on.clock.reach(on.clock() + seconds)


async def upgraded(on: Stage, key: Key, old: str, kind: Any = RAY_CLUSTER, **spec: Any) -> str:
    """After this edit, until there is an object of a second revision; returns its name."""
    await on.on.edit(key, **spec)

    async def others() -> list[str]:
        return [name for name in await on.names(RAY_SERVICE.plural) if name != old]

    async def is_there() -> bool:
        return bool([one for name in await others() for one in await of_revision(on, kind, name)])

    await on.until(is_there, key)
    (name,) = await others()
    return name


@pytest.mark.parametrize("correction", ["c", None], ids=["another spec", "back to what serves"])
def test_a_revision_of_which_kuberay_makes_nothing_does_not_block_its_correction(
    serving: Run, correction: str | None
) -> None:
    async def body(on: Stage, key: Key, first: str) -> None:
        refused = await upgraded(on, key, first, RAY_SERVICE, podTemplate=REFUSED)
        await until(lambda: is_refused(on, refused), SECONDS)
        await later(on, LATE)
        found = await said(on, key, "Progressing", "KubeRaySilent")
        assert refused in await on.names(RAY_SERVICE.plural)
        assert f"it refuses RayService {refused}: " in found["message"]
        assert "RAY_REDIS_ADDRESS is set" in found["message"]
        assert found["message"].endswith("; correct the spec")
        on.engines.loading = False
        await on.on.edit(key, podTemplate=None, restartToken=correction)
        await on.serve(key)
        assert refused not in await on.names(RAY_SERVICE.plural)
        assert ((await status_of(on, key))["serving"]["revision"] == first) == (correction is None)

    serving(body)


async def is_refused(on: Stage, name: str) -> bool:
    """KubeRay has said that it makes nothing of this RayService."""
    status = (await on.api.get(RAY_SERVICE.of(on.on.namespace, name))).get("status", {})
    return any(one["reason"] == "ValidationFailed" for one in status.get("conditions", ()))


def test_while_kuberay_is_silent_what_it_made_stays(serving: Run, control_plane: ControlPlane) -> None:
    async def body(on: Stage, key: Key, first: str) -> None:
        second = await upgraded(on, key, first, POD, restartToken="b")
        path = RAY_SERVICE.of(key.namespace, first)
        control_plane.kill("ray-operator")
        try:
            await hold(on, path)
            await on.api.delete(path)
            await on.on.edit(key, restartToken="c")
            await later(on, LATE)
            found = await said(on, key, "Progressing", "KubeRaySilent")
            assert "look at the KubeRay operator" in found["message"]
            await on.on.settle(key)
            assert second in await on.names(RAY_SERVICE.plural)
        finally:
            await release(on, path)
            control_plane.start("ray-operator")

    serving(body)


async def suspend(on: Stage, name: str) -> str:
    """What Kueue does to a RayService without quota, until KubeRay has obeyed it; returns the path of its status."""
    cluster, held = name_of(await cluster_of(on, name)), {"rayClusterConfig": {"suspend": True}}
    await on.api.patch(RAY_SERVICE.of(on.on.namespace, name), {"spec": held})

    async def is_suspended() -> bool:
        told = (await cluster_of(on, name)).get("status", {}).get("conditions", ())
        return any((one["type"], one["status"]) == ("RayClusterSuspended", "True") for one in told)

    await until(is_suspended, SECONDS)
    return RAY_CLUSTER.of(on.on.namespace, cluster, "status")


def test_a_suspended_ray_cluster_waits_for_capacity(serving: Run) -> None:
    """Kueue admits it when its queue has the quota, however late: the deadline of its progress begins then."""

    async def body(on: Stage, key: Key, first: str) -> None:
        second = await upgraded(on, key, first, restartToken="b")
        await suspend(on, second)
        found = await said(on, key, "Progressing", "WaitingForCapacity")
        assert "the Kueue queue has not admitted it" in found["message"]
        await later(on, NO_CAPACITY_SECONDS)
        await said(on, key, "Degraded", "NoCapacity")
        await later(on, DEADLINE_SECONDS)
        await on.on.settle(key)
        assert "countsFrom" not in (await status_of(on, key))["updating"]
        await on.api.patch(RAY_SERVICE.of(key.namespace, second), {"spec": {"rayClusterConfig": {"suspend": False}}})
        await said(on, key, "Progressing", "StartingRevision")
        status = await status_of(on, key)
        assert status["updating"]["countsFrom"]
        assert [one["state"] for one in status["revisions"]] == ["Updating", "Serving"]

    serving(body, scheduling={"queueName": "q"})


def test_a_cluster_that_loses_its_quota_waits_since_then(serving: Run) -> None:
    """KubeRay stamps the time of the machine, so that the test turns its stamp forward like the clock."""

    async def body(on: Stage, key: Key, first: str) -> None:
        status = await suspend(on, await upgraded(on, key, first, restartToken="b"))
        await later(on, 2000)
        await said(on, key, "Degraded", "NoCapacity")
        taken = {"type": "RayClusterSuspended", "status": "True", "reason": "RayClusterSuspended", "message": ""}
        conditions = [{**taken, "lastTransitionTime": stamp(on.clock())}]
        await on.api.patch(status, {"status": {"conditions": conditions}})
        await said(on, key, "Progressing", "WaitingForCapacity")

    serving(body, scheduling={"queueName": "q"})


def test_traffic_moves_to_no_fewer_replicas_than_the_lower_bound(serving: Run) -> None:
    """Ray patches `replicas` of a RayCluster only to start or end pods; the lower bound gives them, too."""

    async def body(on: Stage, key: Key, first: str) -> None:
        await on.on.edit(key, scaling={"min": 4, "max": 8})
        await on.until(lambda: has_workers(on, first, 4), key)
        assert (await cluster_of(on, first))["spec"]["workerGroupSpecs"][0]["replicas"] < 4
        await on.on.settle(key)
        assert (await status_of(on, key))["desiredReplicas"] == 4
        second = await upgraded(on, key, first, POD, restartToken="b")
        await on.until(lambda: has_workers(on, second, 4), key)
        for pod in (await of_workers(on, second))[1:]:
            await unready(on, pod)
        on.engines.loading = False

        async def one_answers() -> bool:
            return "1 of 4 replicas answer" in (await on.on.condition(key, "Progressing"))["message"]

        await on.until(one_answers, key)
        assert await on.selected(key) == first

    serving(body, scaling={"min": 1, "max": 8})


async def of_workers(on: Stage, name: str) -> list[Object]:
    return [pod for pod in await of_revision(on, POD, name) if is_worker(pod) and not is_terminating(pod)]


async def has_workers(on: Stage, name: str, number: int) -> bool:
    """So many that the kubelet has started."""
    return len([pod for pod in await of_workers(on, name) if "containerStatuses" in pod["status"]]) == number


async def unready(on: Stage, pod: Object) -> None:
    told = [{"type": "Ready", "status": "False", "lastTransitionTime": stamp(on.clock())}]
    await on.api.patch(POD.of(on.on.namespace, name_of(pod), "status"), {"status": {"conditions": told}})


def test_a_limit_is_told_apart_from_a_look(serving: Run) -> None:
    """A look may come later among many endpoints, a limit may not."""

    async def body(on: Stage, key: Key, first: str) -> None:
        await upgraded(on, key, first, POD, restartToken="b")
        result = await on.on.settle(key)
        assert result.requeue_after is not None
        assert result.look_after is not None
        assert result.look_after <= LOG_SECONDS < 400 < result.requeue_after <= 600

    serving(body, upgrade={"progressDeadlineSeconds": 600})
