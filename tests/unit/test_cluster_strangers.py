"""Pods with an endpoint's labels that are not its own."""

from __future__ import annotations

from typing import Any

import pytest

from sglang_operator.cluster.snapshot import Snapshot, _with_lists

Json = dict[str, Any]
ENDPOINT: Json = {"metadata": {"name": "q", "namespace": "d", "uid": "u"}, "spec": {}}
OWN: Json = {"metadata": {"name": "q-a", "uid": "rs", "ownerReferences": [{"uid": "u"}], "labels": {}}}


def pod(node_type: str, **owner: Any) -> Json:
    labels = {"serve.sglang.io/revision": "q-a", "ray.io/node-type": node_type}
    return {"metadata": {"name": "p", "labels": labels, "ownerReferences": [owner] if owner else []}}


@pytest.mark.parametrize(
    ("made", "counts"),
    [
        (pod("worker", kind="RayCluster", uid="rc", controller=True), True),
        (pod("worker", kind="RayCluster", uid="gone", controller=True), True),  # what drains outlives its RayCluster
        (pod("worker"), True),
        (pod("worker", kind="Job", uid="j", controller=True), False),
        (pod("head", kind="ReplicaSet", uid="r", controller=True), False),
        (pod("redis-cleanup", kind="Job", uid="j", controller=True), True),  # KubeRay's, which empties Redis
    ],
)
def test_what_counts_as_the_endpoints(made: Json, counts: bool) -> None:
    found = _with_lists(Snapshot(ENDPOINT), {"RayService": (OWN,), "RayCluster": (), "Pod": (made,)})
    assert bool(found.pods) is counts
