"""What fails around a serving endpoint, under streaming load: KubeRay, the API server, a pod; and its own bounds."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from cluster.actors import User, load, wait_until
from cluster.endpoints import engine_of
from localcluster.cluster import LocalCluster

SILENCE_SECONDS = 60
pytestmark = pytest.mark.timeout(900)


def colored(color: str) -> dict[str, Any]:
    """An engine that differs in its environment only."""
    return engine_of({"env": [{"name": "COLOR", "value": color}]})


def test_bounds_change_in_place(serving: User) -> None:
    """1 to 2 to 1: no rollout, no pod of the first replica restarted."""
    revision, first = serving.serving, workers(serving)
    with load(serving.url()) as working:
        serving.run("scale", "sgl", serving.name, "--replicas=2")
        wait_until(lambda: serving.status["readyReplicas"] == 2, 300, lambda: json.dumps(serving.status))
        serving.run("scale", "sgl", serving.name, "--replicas=1")
        wait_until(lambda: len(workers(serving)) == 1, 600, lambda: json.dumps(serving.status))
    assert working.count.lost == [], str(working.count)
    assert serving.serving == revision
    assert len(first) == 1


def test_an_evicted_worker_hands_over_first(serving: User) -> None:
    """As `kubectl drain` does it. The other replica takes what is new; what runs is finished."""
    serving.run("scale", "sgl", serving.name, "--replicas=2")
    wait_until(lambda: serving.status["readyReplicas"] == 2, 300, lambda: json.dumps(serving.status))
    going = workers(serving)[0]
    with load(serving.url()) as working:
        evict(serving, going)
        wait_until(lambda: going not in workers(serving), 600, f"{going} to go")
        wait_until(lambda: serving.status["readyReplicas"] == 2, 300, lambda: json.dumps(serving.status))
    assert working.count.lost == [], str(working.count)
    serving.run("scale", "sgl", serving.name, "--replicas=1")
    wait_until(lambda: len(workers(serving)) == 1, 600, lambda: json.dumps(serving.status))


def test_the_api_server_restarts_in_a_rollout(serving: User, cluster: LocalCluster) -> None:
    before = serving.serving
    with load(serving.url()) as working:
        serving.edit("engine", colored("red"))
        wait_until(lambda: len(serving.ray_services()) == 2, 60, "a second revision")
        cluster.control_plane.restart("kube-apiserver")
        serving.wait_for_rollout(before)
    assert working.count.lost == [], str(working.count)


def test_kuberay_is_away_for_a_minute(serving: User, cluster: LocalCluster) -> None:
    before = serving.serving
    with load(serving.url()) as working:
        cluster.control_plane.kill("ray-operator")
        serving.edit("engine", colored("green"))
        time.sleep(SILENCE_SECONDS)  # the fault itself
        assert serving.serving == before
        assert serving.condition("Ready")["status"] == "True"
        cluster.control_plane.start("ray-operator")
        serving.wait_for_rollout(before)
    assert working.count.lost == [], str(working.count)


def workers(user: User) -> list[str]:
    """Names of the endpoint's worker pods that are not gone."""
    return sorted(item["metadata"]["name"] for item in user.read("pods", "--selector=ray.io/node-type=worker")["items"])


def evict(user: User, pod: str) -> None:
    """Ask for the pod's eviction until the disruption budget allows it."""
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": user.namespace},
    }
    path = f"/api/v1/namespaces/{user.namespace}/pods/{pod}/eviction"
    user.run("create", f"--raw={path}", "--filename=-", stdin=json.dumps(body))
