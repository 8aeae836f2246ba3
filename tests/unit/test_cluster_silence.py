"""What is known of why KubeRay does not act."""

from __future__ import annotations

from typing import Any

import pytest

from sglang_operator.cluster.metadata import unix
from sglang_operator.cluster.silence import admitted_at, said_of, suspended

INVALID = {"type": "Ready", "status": "False", "reason": "ValidationFailed", "message": "RAY_REDIS_ADDRESS is set"}


@pytest.mark.parametrize(
    ("waiting", "says"),
    [
        ({"status": {"conditions": [INVALID]}}, "it refuses RayService b: RAY_REDIS_ADDRESS"),
        ({"status": {"conditions": [{**INVALID, "reason": "Initializing"}]}}, "kubectl describe rayservice b"),
        ({}, "kubectl describe rayservice b"),
        ({"kind": "RayCluster"}, ""),
    ],
)
def test_what_is_known_of_why_kuberay_does_not_act(waiting: dict[str, Any], says: str) -> None:
    found = said_of([{"kind": "RayService", "metadata": {"name": "b"}, **waiting}])
    assert says in found
    assert bool(found) == bool(says)


MADE, TOLD = "2026-01-01T00:00:00Z", "2026-01-01T02:00:00Z"


@pytest.mark.parametrize(
    ("suspend", "condition", "since"),
    [
        (True, None, MADE),
        (True, "True", TOLD),
        (True, "False", MADE),  # KubeRay has not come to it yet
        (False, "True", TOLD),  # Kueue has admitted it, and KubeRay makes no pods before it has seen that
        (False, "False", None),
        (False, None, None),
    ],
)
def test_a_ray_cluster_waits_for_its_quota_until_kuberay_has_seen_that_it_has_one(
    *, suspend: bool, condition: str | None, since: str | None
) -> None:
    said = [{"type": "RayClusterSuspended", "status": condition, "lastTransitionTime": TOLD}] if condition else []
    cluster = {
        "metadata": {"name": "c", "creationTimestamp": MADE},
        "spec": {"suspend": suspend},
        "status": {"conditions": said},
    }
    found = suspended([cluster])
    assert (found and found.since) == (since and unix(since))
    assert admitted_at(cluster) == unix(TOLD if condition else MADE)
