"""What the cluster refuses, for good or for now, keeps nothing else waiting, and status tells it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from unit.small_cluster import KEY, SmallCluster
from unit.small_server import Refuse, nothing_is_refused

from sglang_operator.cluster.api import ApiError
from sglang_operator.cluster.paths import CLAIM, ENDPOINT, INGRESS, POLICY, Kind

OPEN = {"allowAnonymous": True, "ingress": {"host": "a.example.com"}}
DENIED = ApiError(400, "BadRequest", 'admission webhook "nginx" denied the request: host is already defined')
QUOTA = ApiError(403, "Forbidden", 'rayservices.ray.io "x" is forbidden: exceeded quota: q')
AWAY = ApiError(500, "InternalError", 'failed calling webhook "kueue": no endpoints available for service "kueue"')
Body = Callable[[SmallCluster], Coroutine[Any, Any, None]]


def refusing(error: ApiError, what: str, verb: str = "") -> Refuse:
    return lambda does, path: error if what in path and verb in does else None


def play(cluster: SmallCluster, body: Body) -> None:
    asyncio.run(body(cluster))


@pytest.mark.parametrize(("refused", "other"), [(INGRESS, POLICY), (POLICY, INGRESS)], ids=["Ingress", "NetworkPolicy"])
def test_a_refused_object_keeps_bounds_and_other_objects_from_nothing(refused: Kind, other: Kind) -> None:
    async def body(on: SmallCluster) -> None:
        on.server.refuse = refusing(DENIED, f"/{refused.plural}")
        name = await on.serve()
        assert (on.condition("Progressing")["reason"], on.condition("Ready")["status"]) == ("RefusedByCluster", "True")
        assert "host is already defined" in on.condition("Progressing")["message"]
        del on.server.objects[other.of(*KEY)]
        on.edit(scaling={"min": 3, "max": 6})
        await on.settle(60)
        assert on.workers(name) == ((3, 6), (3, 6))
        assert other.of(*KEY) in on.server.objects

    play(SmallCluster(api=OPEN, scaling={"min": 1, "max": 2}), body)


def test_a_name_that_is_taken_keeps_bounds_from_nothing() -> None:
    async def body(on: SmallCluster) -> None:
        on.server.put(POLICY.of(*KEY), {"spec": {}})
        name = await on.serve()
        assert on.condition("Progressing")["reason"] == "NameTaken"
        on.ray_cluster(name)["spec"]["workerGroupSpecs"][0]["maxReplicas"] = 9
        await on.settle(60)
        assert on.workers(name) == ((1, 1), (1, 1))

    play(SmallCluster(), body)


@pytest.mark.parametrize("error", [QUOTA, AWAY], ids=["for good", "for now"])
def test_a_revision_that_may_not_be_created_keeps_the_serving_one_from_nothing(error: ApiError) -> None:
    async def body(on: SmallCluster) -> None:
        name = await on.serve()
        on.server.refuse = refusing(error, "/rayservices", "POST")
        on.edit(restartToken="b", replicas=3, api={"service": {"port": 8080}})
        try:
            await on.settle(60)
        except ApiError as raised:
            assert raised is error is AWAY  # noqa: PT017 - a refusal for good is a condition instead
        assert on.workers(name) == ((3, 3), (3, 3))
        assert on.service["spec"]["ports"][0]["port"] == 8080
        assert on.revisions() == [name]
        if error is QUOTA:
            assert "exceeded quota" in on.condition("Progressing")["message"]

    play(SmallCluster(), body)


def test_a_repair_does_not_undo_what_the_same_pass_has_written() -> None:
    async def body(on: SmallCluster) -> None:
        name = await on.serve()
        on.server.refuse = refusing(QUOTA, "/rayservices", "POST")
        on.ray_service(name)["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["maxReplicas"] = 9
        on.edit(restartToken="b", replicas=2)
        await on.operator.reconcile(KEY)
        assert on.workers(name) == ((2, 2), (2, 2))

    play(SmallCluster(), body)


def test_a_ray_service_that_takes_no_apply_still_gets_its_bounds() -> None:
    async def body(on: SmallCluster) -> None:
        unknown = ApiError(500, "", "failed to create typed patch object: .spec.x: field not declared in schema")
        name = await on.serve()
        on.server.refuse = refusing(unknown, "/rayservices", "APPLY")
        on.ray_service(name)["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["maxReplicas"] = 9
        on.ray_cluster(name)["spec"]["workerGroupSpecs"][0]["maxReplicas"] = 9
        await on.settle(60)
        assert on.workers(name)[1] == (1, 1)
        assert on.condition("Progressing")["reason"] == "RefusedByCluster"
        assert ".spec.x" in on.condition("Progressing")["message"]

    play(SmallCluster(), body)


def test_status_is_written_while_a_write_fails() -> None:
    async def body(on: SmallCluster) -> None:
        on.server.refuse = refusing(AWAY, "/rayservices", "POST")
        with pytest.raises(ApiError) as raised:
            await on.settle()
        assert raised.value is AWAY
        assert on.condition("Progressing")["reason"] == "StartingRevision"
        assert on.status["observedGeneration"] == 1
        on.edit(replicas=2)
        with pytest.raises(ApiError):
            await on.settle(60)
        assert on.status["observedGeneration"] == 2
        on.server.refuse = nothing_is_refused
        await on.serve()
        assert on.condition("Progressing")["reason"] == "RolloutComplete"

    play(SmallCluster(), body)


def test_the_first_error_is_told_if_status_cannot_be_written_either() -> None:
    async def body(on: SmallCluster) -> None:
        gone = ApiError(0, "ClientConnectorError", "the API server cannot be asked")
        on.server.refuse = lambda _, path: gone if "/status" in path else AWAY
        with pytest.raises(ApiError) as raised:
            await on.settle()
        assert raised.value is AWAY

    play(SmallCluster(), body)


def test_a_claim_of_somebody_else_is_not_mounted() -> None:
    async def body(on: SmallCluster) -> None:
        size = {"requests": {"storage": "100Gi"}}
        theirs = {"metadata": {"labels": {}}, "spec": {"accessModes": ["ReadWriteMany"], "resources": size}}
        before = on.server.put(CLAIM.of(KEY.namespace, "qwen3-cache"), theirs)
        await on.settle()
        found = on.condition("Progressing")
        assert (found["status"], found["reason"]) == ("False", "NameTaken")
        assert "qwen3-cache exists" in found["message"]
        assert "spec.model.cache.claimName" in found["message"]
        assert not [at for at in on.server.objects if "/rayservices/" in at or "/controllerrevisions/" in at]
        assert on.server.objects[CLAIM.of(KEY.namespace, "qwen3-cache")] == before
        on.edit(model={"uri": "hf://Qwen/Qwen3-8B", "cache": {"claimName": "qwen3-cache"}})
        await on.serve()
        assert on.condition("Progressing")["reason"] == "RolloutComplete"

    play(SmallCluster(model={"uri": "hf://Qwen/Qwen3-8B", "cache": {}}), body)


def test_a_claim_that_was_replaced_does_not_end_what_serves() -> None:
    """Its own pods hold it; what is restored is what clients had."""

    async def body(on: SmallCluster) -> None:
        name = await on.serve()
        on.server.objects[CLAIM.of(KEY.namespace, "qwen3-cache")]["metadata"]["labels"] = {"app": "redis"}
        for at in [at for at in on.server.objects if name in at and "/controllerrevisions/" not in at]:
            del on.server.objects[at]
        await on.settle(60)
        assert on.revisions() == [name]
        assert on.condition("Progressing")["reason"] == "NameTaken"

    play(SmallCluster(model={"uri": "hf://Qwen/Qwen3-8B", "cache": {}}), body)


def test_an_endpoint_that_is_made_again_waits_for_the_pods_of_the_earlier_one() -> None:
    async def body(on: SmallCluster) -> None:
        name = await on.serve()
        left = [at for at in on.server.objects if "/pods/" in at or "/rayclusters/" in at]
        on.server.objects = {at: on.server.objects[at] for at in left}  # the garbage collector was here
        on.create()
        await on.settle()
        assert on.revisions() == []
        assert on.condition("Progressing")["reason"] == "WaitingForOldPods"
        for at in left:
            del on.server.objects[at]
        await on.settle(10)
        assert on.revisions() == [name]
        assert on.server.objects[ENDPOINT.of(*KEY)]["status"]["observedGeneration"] == 1

    play(SmallCluster(), body)
