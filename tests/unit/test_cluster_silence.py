"""What is known of why KubeRay does not act."""

from __future__ import annotations

from typing import Any

import pytest

from sglang_operator.cluster.silence import said_of

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
