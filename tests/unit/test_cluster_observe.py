"""When KubeRay counts as silent: what it was asked to do, and has not begun."""

from __future__ import annotations

from typing import Any

import pytest

from sglang_operator.cluster.metadata import unix
from sglang_operator.cluster.silence import SILENT_SECONDS, unheard
from sglang_operator.cluster.snapshot import Snapshot
from sglang_operator.render import names

ASKED = "2026-01-01T00:00:00Z"
LATE = unix(ASKED) + SILENT_SECONDS + 1
Json = dict[str, Any]


def thing(name: str, *, terminating: bool = False, **labels: str) -> Json:
    metadata: Json = {"name": name, "creationTimestamp": ASKED, "labels": {names.REVISION: "qwen3-a", **labels}}
    return {"metadata": {**metadata, **({"deletionTimestamp": ASKED} if terminating else {})}}


def pod(node_type: str, *, terminating: bool = False) -> Json:
    return thing(node_type, terminating=terminating, **{"ray.io/cluster": "qwen3-a-x", "ray.io/node-type": node_type})


def snapshot(*pods: Json, services: tuple[Json, ...] = (), clusters: tuple[Json, ...] = ()) -> Snapshot:
    return Snapshot(endpoint={}, ray_services=services, ray_clusters=clusters, pods=pods)


def test_a_ray_service_without_a_cluster_waits() -> None:
    waiting = snapshot(services=(thing("qwen3-a"),))
    assert unheard(waiting, LATE)
    assert not unheard(waiting, LATE - 2)
    touched = {**thing("qwen3-a-x"), "status": {"observedGeneration": 1}}
    assert not unheard(snapshot(services=(thing("qwen3-a"),), clusters=(touched,)), LATE)


def test_a_cluster_that_nobody_has_come_to_waits() -> None:
    """KubeRay died between the RayCluster and its pods. Pods that a quota refuses are told of in its status."""
    made = {"services": (thing("qwen3-a"),), "clusters": (thing("qwen3-a-x"),)}
    assert unheard(snapshot(**made), LATE)
    assert not unheard(snapshot(**made), LATE - 2)
    assert not unheard(snapshot(pod("head"), **made), LATE)


def test_a_cluster_of_which_kuberay_says_why_nothing_comes_is_no_silence() -> None:
    """Over a quota of Services or ServiceAccounts it writes events alone."""
    made = snapshot(services=(thing("qwen3-a"),), clusters=(thing("qwen3-a-x"),))
    assert not unheard(made, LATE, {"qwen3-a"})
    assert unheard(made, LATE, {"qwen3-b"})


def test_a_ray_service_that_waits_for_pods_that_end_is_not_kuberays_matter() -> None:
    """`kubectl delete --cascade=foreground`: the garbage collector waits for streams to end."""
    deleted = (thing("qwen3-a", terminating=True),)
    assert unheard(snapshot(services=deleted), LATE)
    assert unheard(snapshot(pod("worker"), services=deleted), LATE)
    assert not unheard(snapshot(pod("worker", terminating=True), services=deleted), LATE)


@pytest.mark.parametrize("node_type", ["head", "worker"])
def test_pods_of_a_terminating_cluster_that_nobody_ends_wait(node_type: str) -> None:
    """With Redis its finalizer is KubeRay's, and so are its pods."""
    cluster = thing("qwen3-a-x", terminating=True)
    assert unheard(snapshot(pod(node_type), clusters=(cluster,)), LATE)
    assert not unheard(snapshot(pod(node_type), clusters=(cluster,)), LATE - 2)
    assert not unheard(snapshot(pod(node_type), clusters=(thing("qwen3-a-x"),)), LATE)


def test_pods_that_drain_and_the_job_that_empties_redis_are_kuberay_at_work() -> None:
    cluster = thing("qwen3-a-x", terminating=True)
    at_work = snapshot(pod("worker", terminating=True), pod("redis-cleanup"), clusters=(cluster,))
    assert not unheard(at_work, LATE)
