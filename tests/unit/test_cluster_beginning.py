"""The first writes for an endpoint: nobody may reach its pods before a NetworkPolicy keeps others from them."""

from __future__ import annotations

import asyncio
from typing import Any

from unit.api_objects import endpoint

from sglang_operator.cluster.api import ApiError
from sglang_operator.cluster.paths import ENDPOINT, POLICY, RAY_CLUSTER, RAY_SERVICE, RECORD, SERVICE
from sglang_operator.cluster.probe import Prober
from sglang_operator.cluster.reconcile import Reconciler
from sglang_operator.cluster.types import Key

KEY = Key("default", "qwen3")
CREATED = [RECORD.of(KEY.namespace), POLICY.of(KEY.namespace), RAY_SERVICE.of(KEY.namespace)]
WITHOUT_POLICY = [CREATED[0], CREATED[2]]
Json = dict[str, Any]
# Of such an endpoint RayClusters may be left that nothing leads to, so all is read in the first pass, too.
HIGHLY_AVAILABLE: Json = {"highAvailability": {"redis": {"address": "redis:6379"}}}


class Cluster:
    """Has the endpoint and nothing else, but for `there`; notes what is created, and refuses to create `refused`."""

    def __init__(self, there: Json, refused: str = "", spec: Json = HIGHLY_AVAILABLE, status: int = 403) -> None:
        made = endpoint(**spec)
        made["metadata"] |= {"name": KEY.name, "namespace": KEY.namespace, "uid": "uid-1", "generation": 1}
        made["metadata"]["resourceVersion"] = "1"
        self.there = {ENDPOINT.of(*KEY): made, **there}
        self.refused, self.status = refused, status
        self.created: list[str] = []
        self.listed: list[str] = []
        self.said: Json = {}

    async def find(self, path: str) -> Json | None:
        return self.there.get(path)

    async def list(self, path: str, _labels: str = "") -> list[Json]:
        self.listed.append(path)
        return []

    async def create(self, path: str, body: Json, **_: bool) -> Json:
        if path == self.refused:
            raise ApiError(self.status, "", "no")
        self.created.append(path)
        return {**body, "metadata": {**body["metadata"], "uid": path, "resourceVersion": "1"}}

    async def apply(self, _path: str, body: Json) -> Json:
        self.said = body.get("status", {})
        return body


def created(there: Json | None = None, refused: str = "", status: int = 403) -> list[str]:
    """What a first pass creates, in its order."""
    cluster = Cluster(there or {}, refused, status=status)
    asyncio.run(Reconciler(cluster, Prober(), lambda: 1000.0).reconcile(KEY))  # type: ignore[arg-type]
    return [path for path in cluster.created if not path.endswith("/events")]


def test_the_policy_comes_before_what_pods_are_made_from() -> None:
    assert created() == CREATED


def test_a_policy_that_is_refused_keeps_no_pods_from_being_made() -> None:
    """The next pass asks for it again and tells why."""
    assert created(refused=POLICY.of(KEY.namespace)) == WITHOUT_POLICY


def test_a_policy_that_is_none_keeps_pods_from_being_made() -> None:
    """By what the spec says of peers: without it everybody would reach Ray's ports."""
    assert CREATED[2] not in created(refused=POLICY.of(KEY.namespace), status=422)


def first_pass(defaults: Json) -> Cluster:
    cluster = Cluster({}, spec={})
    asyncio.run(Reconciler(cluster, Prober(), lambda: 1000.0, defaults=defaults).reconcile(KEY))  # type: ignore[arg-type]
    return cluster


def test_the_platform_pauses_as_the_endpoint_does() -> None:
    paused = first_pass({"paused": True})
    reasons = {one["type"]: one["reason"] for one in paused.said["conditions"]}
    assert reasons["Progressing"] == "Paused"
    assert CREATED[2] not in paused.created


def test_redis_of_the_platform_counts_as_the_endpoints_own() -> None:
    """Of such an endpoint RayClusters may be left, whoever has asked for Redis."""
    assert RAY_CLUSTER.of(KEY.namespace) in first_pass(HIGHLY_AVAILABLE).listed
    assert RAY_CLUSTER.of(KEY.namespace) not in first_pass({}).listed


def test_where_the_endpoint_has_been_before_it_is_not_asked_for() -> None:
    owner = {"metadata": {"name": KEY.name, "resourceVersion": "1", "ownerReferences": [{"uid": "uid-1"}]}}
    assert created({SERVICE.of(*KEY): owner}) == WITHOUT_POLICY
