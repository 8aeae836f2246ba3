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
DATA = {"fields": {}, "written": [], "rayService": RAY_SERVICE}
RECORDS = (read_record({"metadata": {"name": NAME}, "revision": 1, "data": DATA}),)
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
    snapshot = Snapshot(
        endpoint={"metadata": {"name": "qwen3"}, "spec": {}, "status": {}},
        records=RECORDS,
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


@pytest.mark.parametrize("today", [{"vendor": "nvidia", "count": 1}, {"vendor": "cpu"}], ids=str)
def test_pods_hold_what_their_revision_asked_for(today: dict[str, Any]) -> None:
    """Whatever the spec says by now; the pods of its own revision are not there yet."""
    view, _ = seen(*(worker(f"10.0.0.{n}", ready=n < 2) for n in range(4)), replicas=2)
    edited = parse_endpoint(endpoint(accelerator=today))
    status = status_of(Facts(edited, view, RECORDS, "another", {}, NOON + 50))
    assert status["accelerators"] == {"allocated": 4 * 8, "rollout": 0}


def test_status_says_what_the_spec_comes_to() -> None:
    """With what is computed and the platform's defaults, which the stored spec does not show."""
    view, status = seen(worker("10.0.0.1", ready=True), replicas=1)
    assert status["resolved"] == {
        "servedName": WIDE.spec.model.served_name,
        "vendor": "nvidia",
        "resourceName": "nvidia.com/gpu",
        "acceleratorsPerReplica": 16,
        "podsPerReplica": 2,
        "tensor": 16,
        "pipeline": 1,
        "data": 1,
    }
    on_cpu = parse_endpoint(endpoint(accelerator={"vendor": "cpu"}))
    resolved = status_of(Facts(on_cpu, view, RECORDS, "another", {}, NOON + 50))["resolved"]
    assert (resolved["vendor"], resolved["acceleratorsPerReplica"], "resourceName" in resolved) == ("cpu", 0, False)


def test_a_replica_that_is_missing_has_a_log_to_read() -> None:
    pods = [worker(f"10.0.0.{n}", ready=n < 1) for n in range(4)]
    _, status = seen(*pods, replicas=1)
    assert (status["replicas"], status["readyReplicas"]) == (2, 1)
    assert read_logs
