"""What a pass makes of an endpoint, on a real API server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from apiserver.passes import MADE, Passes, passes, until

from sglang_operator.cluster.api import FIELD_MANAGER
from sglang_operator.cluster.events import COMPONENT
from sglang_operator.cluster.paths import (
    BUDGET,
    ENDPOINT,
    EVENT,
    INGRESS,
    POLICY,
    RAY_CLUSTER,
    RAY_SERVICE,
    RECORD,
    SERVICE,
)
from sglang_operator.cluster.types import Key
from sglang_operator.render import Platform

if TYPE_CHECKING:
    from apiserver.conftest import ControlPlane

OTHERS = {"kube-controller-manager", "kuberay-operator"}  # who write to the same objects
Run = Callable[[Callable[[Passes], Awaitable[None]]], None]


@pytest.fixture
def run(control_plane: ControlPlane) -> Run:
    """Runs a test's body in a namespace of its own."""

    def run_in(body: Callable[[Passes], Awaitable[None]], **options: Any) -> None:
        async def main() -> None:
            async with passes(control_plane.kubeconfig, **options) as made:
                await body(made)

        asyncio.run(main())

    return run_in


def test_an_endpoint_becomes_its_objects_and_then_nothing_is_written(run: Run) -> None:
    async def body(on: Passes) -> None:
        key = await on.create()
        await on.settle(key)
        record, ray_service = await on.one(RECORD), await on.one(RAY_SERVICE)
        service, policy = await on.one(SERVICE), await on.one(POLICY)
        assert record["metadata"]["name"] == ray_service["metadata"]["name"]
        assert record["revision"] == 1
        assert service["spec"]["selector"]["serve.sglang.io/revision"] == ""  # nothing serves yet
        for made in (record, ray_service, service, policy):
            (owner,) = made["metadata"]["ownerReferences"]
            assert (owner["kind"], owner["controller"]) == ("SGLangEndpoint", True)
        assert (await on.condition(key, "Ready"))["reason"] == "NotServing"
        assert (await on.condition(key, "Progressing"))["reason"] == "StartingRevision"
        before = len(on.written)
        await on.operator().reconcile(key)  # another process
        assert len(on.written) == before

    run(body)


def test_all_that_it_writes_it_writes_under_one_name(run: Run) -> None:
    """With a second one, fields that the spec does not ask for any more would stay."""

    async def body(on: Passes) -> None:
        cached = {"uri": "hf://HuggingFaceTB/SmolLM2-135M-Instruct", "cache": {"size": "1Gi"}}
        open_to_all = {"allowAnonymous": True, "ingress": {"host": "a.example.com"}}
        key = await on.create(replicas=2, model=cached, api=open_to_all)
        await on.settle(key)
        await on.edit(key, replicas=3, api={"ingress": {"host": "b.example.com"}})
        await until(lambda: clusters_have(on, key, (3, 3)))
        made = [item for kind in (*MADE.values(), RAY_CLUSTER) for item in await on.api.list(kind.of(on.namespace))]
        events = [
            one for one in await on.api.list(EVENT.of(on.namespace)) if one["source"].get("component") == COMPONENT
        ]
        written = [entry for item in (*made, *events) for entry in item["metadata"]["managedFields"]]
        reported = (await on.api.get(ENDPOINT.of(*key)))["metadata"]["managedFields"]
        written += [entry for entry in reported if entry.get("subresource") == "status"]
        assert {entry["manager"] for entry in written} - OTHERS == {FIELD_MANAGER}

    run(body)


def test_a_change_of_the_count_goes_in_place(run: Run) -> None:
    async def body(on: Passes) -> None:
        key = await on.create()
        await on.settle(key)
        before = await on.one(RAY_SERVICE)
        await on.edit(key, replicas=3)
        await on.settle(key)
        after = await on.one(RAY_SERVICE)
        assert after["metadata"]["uid"] == before["metadata"]["uid"]
        (group,) = after["spec"]["rayClusterConfig"]["workerGroupSpecs"]
        assert (group["minReplicas"], group["maxReplicas"]) == (3, 3)
        (deployment,) = yaml.safe_load(after["spec"]["serveConfigV2"])["applications"][0]["deployments"]
        assert deployment["autoscaling_config"] == {"min_replicas": 3, "max_replicas": 3}
        assert (await on.one(RECORD))["revision"] == 1
        assert (await on.one(BUDGET))["spec"]["minAvailable"] == 2

    run(body)


def test_autoscaling_comes_and_goes_in_place(run: Run) -> None:
    async def body(on: Passes) -> None:
        key = await on.create()
        await on.settle(key)
        before = await on.one(RAY_SERVICE)
        for scaling, bounds, head in (({"min": 0, "max": 3}, (0, 3), True), ({"min": 2}, (2, 3), False)):
            await on.edit(key, scaling=scaling)
            await on.settle(key)
            after = await on.one(RAY_SERVICE)
            assert after["metadata"]["uid"] == before["metadata"]["uid"]
            assert after["spec"]["excludeHeadPodFromServeSvc"] is not head
            assert bounds_of(after["spec"]["rayClusterConfig"]) == bounds
            assert config_of(after)["min_replicas"] == max(1, bounds[0]), "nothing serves yet, so one has to start"
            await until(lambda bounds=bounds: clusters_have(on, key, bounds))  # type: ignore[misc]
        await on.edit(key, scaling=None, replicas=2)
        await on.settle(key)
        assert bounds_of((await on.one(RAY_SERVICE))["spec"]["rayClusterConfig"]) == (2, 2)
        assert (await on.one(RECORD))["revision"] == 1

    run(body)


def bounds_of(cluster: dict[str, Any]) -> tuple[int, int]:
    (group,) = cluster["workerGroupSpecs"]
    return group["minReplicas"], group["maxReplicas"]


def config_of(ray_service: dict[str, Any]) -> dict[str, Any]:
    (deployment,) = yaml.safe_load(ray_service["spec"]["serveConfigV2"])["applications"][0]["deployments"]
    return dict(deployment["autoscaling_config"])


async def clusters_have(on: Passes, key: Key, bounds: tuple[int, int]) -> bool:
    await on.settle(key)  # KubeRay does not bring them there
    found = await on.api.list(RAY_CLUSTER.of(on.namespace))
    return bool(found) and all(bounds_of(cluster["spec"]) == bounds for cluster in found)


def test_a_revision_that_never_served_goes_before_the_next_one_comes(run: Run) -> None:
    async def body(on: Passes) -> None:
        key = await on.create()
        await on.settle(key)
        first = (await on.one(RAY_SERVICE))["metadata"]["name"]
        await on.edit(key, restartToken="again")

        async def replaced() -> bool:
            await on.settle(key)
            return [item["metadata"]["name"] for item in await on.objects(RAY_SERVICE)] not in ([first], [])

        await until(replaced)
        assert (await on.one(RAY_SERVICE))["metadata"]["name"] != first
        assert sorted(item["revision"] for item in await on.objects(RECORD)) == [1, 2]

    run(body)


def test_what_the_spec_no_longer_asks_for_goes(run: Run) -> None:
    async def body(on: Passes) -> None:
        key = await on.create(api={"allowAnonymous": True, "ingress": {"host": "a.example.com"}}, replicas=2)
        await on.settle(key)
        assert (await on.one(INGRESS))["spec"]["rules"][0]["host"] == "a.example.com"
        await on.edit(key, api={"ingress": None}, replicas=1)
        await on.settle(key)
        assert await on.objects(INGRESS) == []
        assert await on.objects(BUDGET) == []

    run(body)


def test_while_paused_nothing_is_written_but_status(run: Run) -> None:
    async def body(on: Passes) -> None:
        key = await on.create(paused=True)
        await on.settle(key)
        assert await on.objects(RAY_SERVICE) == []
        assert (await on.condition(key, "Progressing"))["reason"] == "Paused"
        await on.edit(key, paused=False)
        await on.settle(key)
        assert len(await on.objects(RAY_SERVICE)) == 1

    run(body)


def test_deleting_the_endpoint_removes_all_without_the_operator(run: Run) -> None:
    async def body(on: Passes) -> None:
        key = await on.create(replicas=2)
        await on.settle(key)
        await on.remove(key)

    run(body)


def test_newer_defaults_of_the_operator_move_no_endpoint(run: Run) -> None:
    async def body(on: Passes) -> None:
        key = await on.create()
        await on.settle(key)
        before = await on.everything()
        images = {vendor: f"registry.example.com/{vendor}:next" for vendor in ("nvidia", "amd", "cpu")}
        on.options = {"platform": replace(Platform(), images=images), "defaults": {"head": {"memory": "8Gi"}}}
        await on.settle(key)
        after = await on.everything()
        assert after["RayService"] == before["RayService"]
        assert after["ControllerRevision"] == before["ControllerRevision"]

    run(body)
