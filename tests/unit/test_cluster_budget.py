"""The disruption budget of replicas on several nodes: by the rules of Kubernetes' eviction API."""

from __future__ import annotations

from typing import Any

import pytest
from unit.api_objects import endpoint

from sglang_operator.api import parse_endpoint
from sglang_operator.cluster.budget import live_budget
from sglang_operator.render import render_endpoint

REVISION = "qwen3-serving"


def budget(nodes: int, ready: int, replicas: int = 2, revision: str = REVISION) -> dict[str, Any]:
    spec = endpoint(replicas=replicas, parallelism={"nodes": nodes})
    rendered = next(one for one in render_endpoint(parse_endpoint(spec)) if one["kind"] == "PodDisruptionBudget")
    pods = [pod(REVISION, ready=number < ready) for number in range(replicas * nodes)]
    found: dict[str, Any] = live_budget(rendered, revision, [*pods, pod("qwen3-other", ready=True)])["spec"]
    return found


def pod(revision: str, *, ready: bool) -> dict[str, Any]:
    labels = {"serve.sglang.io/revision": revision, "ray.io/node-type": "worker"}
    condition = {"type": "Ready", "status": str(ready)}
    return {"metadata": {"name": "p", "labels": labels}, "status": {"phase": "Running", "conditions": [condition]}}


def evicts(spec: dict[str, Any], healthy: int, *, is_ready: bool) -> bool:
    """pkg/registry/core/pod/storage/eviction.go, for a running pod."""
    if is_ready:
        return healthy > int(spec["minAvailable"])
    if spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow":
        return True
    return healthy >= int(spec["minAvailable"]) > 0


@pytest.mark.parametrize("replicas", [2, 4])
def test_of_whole_replicas_any_pod_may_go_and_then_none_until_it_is_back(replicas: int) -> None:
    whole, missing = budget(2, replicas, replicas), budget(2, replicas - 1, replicas)
    for is_ready in (True, False):
        assert evicts(whole, replicas, is_ready=is_ready)
        assert not evicts(missing, replicas - 1, is_ready=is_ready)


def test_on_one_node_a_pod_that_is_not_ready_never_holds_up_a_drain() -> None:
    assert budget(1, 1)["minAvailable"] == budget(1, 2)["minAvailable"] == 1
    assert evicts(budget(1, 0), 0, is_ready=False)
    assert not evicts(budget(1, 1), 1, is_ready=True)


def test_it_is_of_the_revision_that_serves_and_open_until_one_does() -> None:
    assert budget(2, 2)["selector"]["matchLabels"]["serve.sglang.io/revision"] == REVISION
    first = budget(2, 0, revision="")
    assert evicts(first, 0, is_ready=False)
    assert first["selector"]["matchLabels"]["serve.sglang.io/revision"] != REVISION
