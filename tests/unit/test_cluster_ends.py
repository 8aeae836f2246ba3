"""How workers ended that KubeRay has deleted, from its events (KubeRay 1.6.1, as seen on a cluster)."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from sglang_operator.cluster.ends import (
    KEPT_SECONDS,
    RECENT_SECONDS,
    REPLACED_SECONDS,
    Ends,
    eviction_of,
    failure_of,
    lost_workers,
    read_ends,
    repeated_since,
)
from sglang_operator.cluster.metadata import stamp

NOW = 2_000_000_000.0


def event(code: int, reason: str, ago: float = 10) -> dict[str, Any]:
    message = (
        "Deleted worker Pod a/low-2mhebhiw-h8lx6-worker-rltvb; Pod status: Running; Pod restart policy: Never; "
        f"Ray container terminated status: &ContainerStateTerminated{{ExitCode:{code},Signal:0,Reason:{reason},"
        "Message:,"
        "StartedAt:2026-11-23 21:23:46 +0000 UTC,FinishedAt:2026-11-23 21:23:48 +0000 UTC,ContainerID:containerd://d1d7c,}"
    )
    return {"reason": "DeletedWorkerPod", "message": message, "lastTimestamp": stamp(NOW - ago)}


def test_out_of_memory_once_is_enough() -> None:
    found = failure_of([event(137, "OOMKilled")], NOW)
    assert found is not None
    assert (found.reason, found.at) == ("OOMKilled", NOW - 10)
    assert "spec.resources.memory" in found.message


def test_another_end_counts_when_it_comes_again_and_again() -> None:
    twice = [event(1, "Error", 40), event(1, "Error", 30)]
    assert failure_of(twice, NOW) is None
    found = failure_of([*twice, event(2, "Error", 20)], NOW)
    assert found is not None
    assert found.reason == "CrashLoop"
    assert "3 times" in found.message
    assert "exit code 2" in found.message


@pytest.mark.parametrize(
    "calm",
    [
        event(137, "OOMKilled", RECENT_SECONDS + 1),
        {"reason": "DeletedWorkerPod", "message": "Deleted worker Pod a/b", "lastTimestamp": stamp(NOW)},
    ],
    ids=["long ago", "scaled down"],
)
def test_what_does_not_count(calm: dict[str, Any]) -> None:
    assert failure_of([calm] * 5, NOW) is None


def test_a_worker_that_ends_every_ten_minutes_repeats_itself() -> None:
    """Too slowly for a crash loop; each new pod would count as progress, for ever."""
    slow = [event(1, "Error", ago) for ago in (1250, 650, 50)]
    assert failure_of(slow, NOW) is None
    assert repeated_since(slow, NOW) == NOW - 650


@pytest.mark.parametrize(
    "calm",
    [
        [event(1, "Error", 50)],
        [event(1, "Error", 50), event(1, "Error", KEPT_SECONDS + 1)],
        [{"message": "Deleted worker Pod a/b", "lastTimestamp": stamp(NOW - ago)} for ago in (10, 20)],
    ],
    ids=["once", "long ago", "scaled down"],
)
def test_what_may_happen_to_a_worker_is_no_repetition(calm: list[dict[str, Any]]) -> None:
    assert repeated_since(calm, NOW) is None


def test_evictions_repeat_themselves_too() -> None:
    message = (
        "Deleted worker Pod a/b; Pod status: Failed; Pod restart policy: Never; Ray container terminated status: nil"
    )
    evicted = [{"message": message, "lastTimestamp": stamp(NOW - ago)} for ago in (900, 30)]
    assert repeated_since(evicted, NOW) == NOW - 30


# As Kubernetes 1.36 has them (pkg/kubelet/eviction).
OWN_LIMITS = (
    "Pod ephemeral local storage usage exceeds the total limit of containers 50Gi. ",
    'Container ray-worker exceeded its local ephemeral storage limit "50Gi". ',
    'Usage of EmptyDir volume "shared-memory" exceeds the limit "16Gi". ',
)
PRESSURE = "The node was low on resource: ephemeral-storage. Threshold quantity: 9Gi, available: 8Gi. "


def evicted(text: str, ago: float = 10) -> dict[str, Any]:
    return {"reason": "Evicted", "message": text, "lastTimestamp": stamp(NOW - ago)}


@pytest.mark.parametrize("text", OWN_LIMITS)
def test_beyond_its_own_limit_once_is_enough(text: str) -> None:
    found = eviction_of([evicted(PRESSURE, 5), evicted(text)], NOW)
    assert found is not None
    assert (found.reason, found.at) == ("Evicted", NOW - 10)
    assert text.strip() in found.message
    assert "spec.resources.ephemeralStorage" in found.message


def test_pressure_of_the_node_counts_when_it_comes_again_and_again() -> None:
    assert eviction_of([evicted(PRESSURE)] * 2, NOW) is None
    assert eviction_of([evicted(PRESSURE, RECENT_SECONDS + 1)] * 5, NOW) is None
    found = eviction_of([evicted(PRESSURE)] * 3, NOW)
    assert found is not None
    assert "low on resource" in found.message
    assert "spec.resources" not in found.message


class Told:
    """An API server that has one worker's end, and the evictions of these pods."""

    def __init__(self, *pods: str) -> None:
        self.pods = sorted(pods)  # as events are named

    async def get(self, path: str) -> dict[str, Any]:
        if "DeletedWorkerPod" in path:
            return {"items": [{"message": "Deleted worker Pod; Pod status: Failed", "lastTimestamp": stamp(NOW - 10)}]}
        (most,) = parse_qs(urlsplit(path).query)["limit"]
        first = self.pods[: int(most)]
        return {"items": [{"involvedObject": {"name": pod}, **evicted(OWN_LIMITS[1])} for pod in first]}


@pytest.mark.parametrize("length", [1, 34, 35, 36, 38])
def test_evictions_are_found_by_the_names_that_kuberay_gives_pods(length: int) -> None:
    """It cuts what it makes them of to 50 characters: the longest endpoint name is cut within that of the cluster."""
    name = f"{'q' * length}-abcdefgh-x7k2p"
    one = {**cluster(600), "metadata": {**cluster(600)["metadata"], "name": name, "namespace": "d", "uid": "u"}}

    def told(*pods: str) -> Ends:
        return asyncio.run(read_ends(Told(*pods), [], [one], NOW))  # type: ignore[arg-type]

    ours = f"{f'{name}-worker'[:50]}-worker-vb9xz"
    others = [f"a-job-{number}" for number in range(200)]
    for pods in ([ours], [ours, *others]):
        found = told(*pods).failure
        assert found is not None
        assert found.reason == "Evicted"
    assert told("other-worker-worker-vb9xz").failure is None


def cluster(made: float, provisioned: str = "", since: float = 0) -> dict[str, Any]:
    said = {"type": "RayClusterProvisioned", "status": provisioned, "lastTransitionTime": stamp(NOW - since)}
    return {
        "metadata": {"name": "c", "creationTimestamp": stamp(NOW - made)},
        "status": {"observedGeneration": 1, "conditions": [said] if provisioned else []},
    }


def worker(made: float) -> dict[str, Any]:
    labels = {"ray.io/node-type": "worker"}
    return {"metadata": {"name": "w", "labels": labels, "creationTimestamp": stamp(NOW - made)}}


def test_a_worker_younger_than_the_first_ones_has_replaced_one() -> None:
    assert not lost_workers(cluster(300), [worker(299)], NOW)
    assert lost_workers(cluster(300), [worker(299), worker(10)], NOW)
    assert lost_workers(cluster(300), [], NOW)


def test_a_worker_of_a_cluster_that_kuberay_came_to_late_has_replaced_none() -> None:
    assert not lost_workers({**cluster(300), "status": {}}, [], NOW)
    late = cluster(300, "False", 100)
    assert not lost_workers(late, [worker(100)], NOW)
    assert lost_workers(late, [worker(100 - REPLACED_SECONDS - 1)], NOW)
    ready = cluster(300, "True", 5)
    assert lost_workers(ready, [worker(10)], NOW), "it may have ended while the others were not Ready yet"
