"""There are nodes for half of a further replica: it gives them back to others, and what serves loses nothing by it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from cluster.actors import Operator, User, load, somebody, wait_until
from cluster.endpoints import administered, tiny_endpoint
from localcluster.cluster import LocalCluster

SLOT = "example.com/slot"  # in the place of an accelerator: the scheduler counts it, nothing else knows it
EACH = 2
SECONDS = 900
pytestmark = [pytest.mark.timeout(3600), pytest.mark.long]


def test_half_a_replica_gives_its_nodes_back_and_is_tried_again(cluster: LocalCluster, operator: Operator) -> None:
    with slots(cluster, EACH + 1), somebody(cluster, "half-placed") as user:
        user.make_admin_key()
        user.apply(administered(in_pairs()))
        user.wait_for("Ready", "True", seconds=SECONDS)
        serving = user.workers()
        assert len(serving) == EACH
        with load(user.url()) as work:
            user.slow_down()
            user.edit("replicas", 2)
            wait_until(lambda: len(user.workers()) == 2 * EACH, SECONDS, "two pods more")
            wait_until(lambda: "is held to 1 of 2 replicas" in degraded(user), SECONDS, lambda: said(user))
            wait_until(lambda: user.workers() == serving, SECONDS, lambda: f"{user.workers()}: {said(user)}")
        assert work.count.lost == []
        assert user.status["readyReplicas"] == 1
        with slots(cluster, 2 * EACH):
            wait_until(lambda: user.status["readyReplicas"] == 2, SECONDS, lambda: said(user))
            assert set(serving) < set(user.workers()), "what served was touched"
            user.wait_for("Degraded", "False")


def in_pairs() -> dict[str, Any]:
    """An endpoint of one replica on two pods, each of which takes a slot."""
    manifest = tiny_endpoint()
    spec = manifest["spec"]
    spec["parallelism"] = {"nodes": EACH}
    spec["resources"]["cpu"] = "250m"  # four of them are to fit on one node of two cores
    spec["upgrade"]["capacityTimeoutSeconds"] = 0  # a minute: the least
    (worker,) = spec["podTemplate"]["worker"]["spec"]["containers"]
    worker["resources"] = {"requests": {SLOT: "1"}, "limits": {SLOT: "1"}}
    return manifest


@contextmanager
def slots(cluster: LocalCluster, number: int) -> Iterator[None]:
    """So many on the first node, as a device plugin would say."""
    before = cluster.control_plane.kubectl.objects("node", cluster.nodes[0].name)[0]["status"]["capacity"].get(SLOT)
    _set_slots(cluster, str(number))
    try:
        yield
    finally:
        _set_slots(cluster, before)


def _set_slots(cluster: LocalCluster, number: str | None) -> None:
    status = json.dumps({"status": {"capacity": {SLOT: number}, "allocatable": {SLOT: number}}})
    words = ("patch", "node", cluster.nodes[0].name, "--subresource=status", "--type=merge", f"--patch={status}")
    cluster.control_plane.kubectl(*words)


def degraded(user: User) -> str:
    return str(user.condition("Degraded").get("message"))


def said(user: User) -> str:
    return json.dumps(user.status, indent=1)
