"""A node loses power, and its Node object stays, as without a cloud: what goes on, what is lost, what comes again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Any

import pytest
from cluster.actors import Operator, User, load, somebody, wait_until
from cluster.endpoints import administered, colored, tiny_endpoint
from cluster.test_disruptions import STREAM_TOKENS, STREAMS, all_under_way, front, scale, under_way
from localcluster.cluster import LocalCluster
from localcluster.node import Node

from sglang_operator.cluster.metadata import name_of

GIVEN_UP_SECONDS = 5  # from the node's taint to the eviction of its pods; Kubernetes' own is 300
NUMBERS = count()
TOLD_SECONDS = 120  # a node counts as unreachable after 50 s
pytestmark = [pytest.mark.timeout(1800), pytest.mark.long]


def pinned(cluster: LocalCluster, head: int, replicas: int) -> dict[str, Any]:
    """An endpoint whose head shall be on that node, and whose pods give a lost node up soon."""
    made = administered(tiny_endpoint())
    taints = ("node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready")
    common = {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": GIVEN_UP_SECONDS}
    tolerations = [{"key": key, **common} for key in taints]
    named = {"key": "kubernetes.io/hostname", "operator": "In", "values": [cluster.nodes[head].name]}
    preferred = [{"weight": 100, "preference": {"matchExpressions": [named]}}]
    where = {"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}}
    made["spec"]["replicas"] = replicas
    made["spec"]["podTemplate"]["head"] = {"spec": {**where, "tolerations": tolerations}}
    made["spec"]["podTemplate"]["worker"]["spec"]["tolerations"] = tolerations
    return made


@contextmanager
def without_power(cluster: LocalCluster, node: Node) -> Iterator[None]:
    """It is back, and takes pods, after the body."""
    node.kill()
    try:
        yield
    finally:
        node.start(cluster.models)
        node.wait_until_ready(cluster.control_plane.kubectl)


@pytest.fixture
def user(cluster: LocalCluster, operator: Operator) -> Iterator[User]:
    del operator  # it runs
    with somebody(cluster, f"lost-node-{next(NUMBERS)}") as made:  # the one before may still be on its way out
        made.make_admin_key()
        yield made


def test_a_lost_node_takes_its_streams_along_and_holds_up_no_rollout(cluster: LocalCluster, user: User) -> None:
    """The first streams come in through the worker of the other node, where they would survive."""
    user.apply(pinned(cluster, head=0, replicas=2))
    wait_until(lambda: user.status.get("readyReplicas") == 2, 900, lambda: json.dumps(user.status))
    lost = cluster.nodes[1]
    (going,) = (name_of(pod) for pod in user.pods("ray.io/node-type=worker") if pod["spec"]["nodeName"] == lost.name)
    (staying,) = set(user.workers()) - {going}
    user.slow_down()
    with ExitStack() as dark:
        with load(front(user, staying), kept=0, fresh=0, long=STREAMS, long_tokens=STREAM_TOKENS) as running:
            on_it = wait_until(lambda: all_under_way(user), 60, lambda: str(under_way(user)))[going]
            dark.enter_context(without_power(cluster, lost))
            with load(user.url()) as begun_later:
                wait_until(lambda: user.status["readyReplicas"] == 1, TOLD_SECONDS, lambda: json.dumps(user.status))
                wait_until(lambda: user.status["readyReplicas"] == 2, 400, lambda: json.dumps(user.status))
        assert user.nodes("worker") == {cluster.nodes[0].name}
        require_a_rollout(user)
    assert 0 < on_it < STREAMS
    assert len(running.count.lost) <= on_it, f"{running.count}, {on_it} ran on it: {running.count.lost}"
    # Until its node counts as lost the Service still has an address at which nobody is: nothing was sent there.
    sent = [lost for lost in begun_later.count.lost if "ConnectionTimeoutError" not in lost.what]
    assert sent == [], str(begun_later.count)


def require_a_rollout(user: User) -> None:
    """With room for it on the node that is left."""
    scale(user, 1)
    before = user.serving
    user.slow_down()
    with load(user.url()) as working:
        user.edit("engine", colored("green"))
        user.wait_for_rollout(before)
    assert working.count.lost == [], str(working.count)


def test_a_head_on_a_lost_node_is_told_and_another_one_comes(cluster: LocalCluster, user: User) -> None:
    """Without Redis: the replicas end without their head. KubeRay makes no other while the lost one's pod stays."""
    lost = cluster.nodes[1]
    user.apply(pinned(cluster, head=1, replicas=1))
    user.wait_for("Ready", "True", seconds=900)
    with without_power(cluster, lost):
        told = user.wait_for("Degraded", "True", "HeadLost", TOLD_SECONDS)
        assert "all replicas end within a minute" in told["message"]
        user.wait_for("Ready", "False")
        wait_until(lambda: user.nodes("head") == {cluster.nodes[0].name}, TOLD_SECONDS, "another head")
        user.wait_for("Ready", "True", seconds=900)
