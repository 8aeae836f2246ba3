"""What is read of replicas on several nodes: pods are not replicas, and one pod of each replica answers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from unit.api_objects import endpoint
from unit.test_cluster_scaling import NOON, OWNER, Asked

from sglang_operator.api import parse_endpoint
from sglang_operator.cluster import observe as observing
from sglang_operator.cluster.in_place import in_place_of, live_ray_service
from sglang_operator.cluster.logs import Said
from sglang_operator.cluster.observe import View, observe
from sglang_operator.cluster.records import read_record
from sglang_operator.cluster.snapshot import Snapshot
from sglang_operator.cluster.status import Facts, status_of
from sglang_operator.render import render_endpoint

WIDE = parse_endpoint(endpoint(scaling={"min": 1, "max": 4}, accelerator={"count": 8}, parallelism={"nodes": 2}))
RAY_SERVICE = next(item for item in render_endpoint(WIDE) if item["kind"] == "RayService")
NAME = RAY_SERVICE["metadata"]["name"]
read_logs: list[int] = []


@pytest.fixture(autouse=True)
def _logs(monkeypatch: pytest.MonkeyPatch) -> None:
    async def note(*_: object) -> Said:
        read_logs.append(1)
        return Said()

    read_logs.clear()
    monkeypatch.setattr(observing, "_listen", note)


def worker(ip: str, *, ready: bool) -> dict[str, Any]:
    labels = {"serve.sglang.io/revision": NAME, "ray.io/node-type": "worker", "ray.io/serve": "true"}
    said = {"type": "Ready", "status": str(ready), "lastTransitionTime": "2026-01-01T00:00:01Z"}
    return {
        "metadata": {"name": ip, "labels": labels, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"nodeName": "n"},
        "status": {"podIP": ip, "conditions": [said], "phase": "Running"},
    }


def seen(*pods: dict[str, Any], replicas: int) -> tuple[View, dict[str, Any]]:
    live = live_ray_service(OWNER, RAY_SERVICE, in_place_of(WIDE, "digest"))
    live["metadata"] |= {"uid": "uid-2", "creationTimestamp": "2026-01-01T00:00:00Z"}
    group = {"groupName": "worker", "replicas": len(pods)}
    cluster = {
        "metadata": {"name": "c", "labels": {"serve.sglang.io/revision": NAME}},
        "spec": {"workerGroupSpecs": [group]},
    }
    record = {
        "metadata": {"name": NAME},
        "revision": 1,
        "data": {"fields": {}, "written": [], "rayService": RAY_SERVICE},
    }
    snapshot = Snapshot(
        endpoint={"metadata": {}, "spec": {}, "status": {}},
        records=(read_record(record),),
        ray_services=(live,),
        ray_clusters=(cluster,),
        pods=pods,
        service={"metadata": {"resourceVersion": "1", "annotations": {"serve.sglang.io/serving": NAME}}},
    )
    view = asyncio.run(observe(None, Asked(replicas), snapshot, NAME, NOON + 50))  # type: ignore[arg-type]
    return view, status_of(Facts(WIDE, view, snapshot.records, NAME, {}, NOON + 50))


def test_four_pods_are_two_replicas() -> None:
    pods = [worker(f"10.0.0.{n}", ready=n < 2) for n in range(4)]
    view, status = seen(*pods, replicas=2)
    assert view.observed.get(NAME).live.target_replicas == 2
    assert (status["replicas"], status["readyReplicas"], status["desiredReplicas"]) == (2, 2, 2)
    assert status["accelerators"]["allocated"] == 4 * 8
    assert read_logs == [], "no replica is missing"


def test_a_replica_that_is_missing_has_a_log_to_read() -> None:
    pods = [worker(f"10.0.0.{n}", ready=n < 1) for n in range(4)]
    _, status = seen(*pods, replicas=1)
    assert (status["replicas"], status["readyReplicas"]) == (2, 1)
    assert read_logs
