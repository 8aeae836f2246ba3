"""What fails around a serving endpoint, under streaming load: KubeRay, a pod."""

from __future__ import annotations

import json
import time

import pytest
from cluster.actors import User, load, wait_until
from cluster.endpoints import colored
from localcluster.cluster import LocalCluster

SILENCE_SECONDS = 60
pytestmark = [pytest.mark.timeout(900), pytest.mark.long]


def test_an_evicted_worker_hands_over_first(serving: User) -> None:
    """As `kubectl drain` does it. The other replica takes what is new; what runs is finished."""
    serving.run("scale", "sgl", serving.name, "--replicas=2")
    wait_until(lambda: serving.status["readyReplicas"] == 2, 300, lambda: json.dumps(serving.status))
    going = serving.workers()[0]
    serving.slow_down()
    with load(serving.url()) as working:
        evict(serving, going)
        wait_until(lambda: going not in serving.workers(), 600, f"{going} to go")
        wait_until(lambda: serving.status["readyReplicas"] == 2, 300, lambda: json.dumps(serving.status))
    assert working.count.lost == [], str(working.count)
    serving.run("scale", "sgl", serving.name, "--replicas=1")
    wait_until(lambda: len(serving.workers()) == 1, 600, lambda: json.dumps(serving.status))


def test_kuberay_is_away_for_a_minute(serving: User, cluster: LocalCluster) -> None:
    before = serving.serving
    serving.slow_down()
    with load(serving.url()) as working:
        cluster.control_plane.kill("ray-operator")
        serving.edit("engine", colored("green"))
        time.sleep(SILENCE_SECONDS)  # the fault itself
        assert serving.serving == before
        assert serving.condition("Ready")["status"] == "True"
        cluster.control_plane.start("ray-operator")
        serving.wait_for_rollout(before)
    assert working.count.lost == [], str(working.count)


def evict(user: User, pod: str) -> None:
    """Ask for the pod's eviction until the disruption budget allows it."""
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": user.namespace},
    }
    path = f"/api/v1/namespaces/{user.namespace}/pods/{pod}/eviction"
    user.run("create", f"--raw={path}", "--filename=-", stdin=json.dumps(body))
