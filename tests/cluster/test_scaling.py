"""Replicas follow the requests in real pods: from none, up, down, and to none again. Nothing is lost on the way."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from cluster.actors import Operator, User, load, wait_until
from cluster.endpoints import CHAT, put_tiny_model, tiny_endpoint
from localcluster.cluster import LocalCluster

SCALING = {
    "min": 0,
    "max": 2,
    "targetOngoingRequests": 2,
    "upscaleDelaySeconds": 5,
    "downscaleDelaySeconds": 15,
    "idleSecondsBeforeZero": 15,
    "holdSeconds": 600,
}
pytestmark = [pytest.mark.timeout(1500), pytest.mark.long]


@pytest.fixture(scope="module")
def autoscaled(cluster: LocalCluster, operator: Operator) -> Iterator[User]:
    """An endpoint that starts with one replica and may go to zero."""
    put_tiny_model(cluster.models)
    user = User(cluster.control_plane.kubectl, f"scaling-{os.getpid()}")
    cluster.control_plane.make_namespace(user.namespace)
    manifest = tiny_endpoint()
    manifest["spec"]["scaling"] = SCALING
    user.apply(manifest)
    user.wait_for("Ready", "True", seconds=600)
    yield user
    user.run("delete", "namespace", user.namespace, "--wait=false")
    wait_until(lambda: not user.read("pods")["items"], 900, "the pods of a deleted endpoint to go")


def test_requests_wake_it_and_more_of_them_add_a_replica(autoscaled: User) -> None:
    wait_until(lambda: not autoscaled.workers(), 600, "the last worker pod to go")
    wait_until(lambda: autoscaled.status.get("atZeroSince"), 60, lambda: json.dumps(autoscaled.status))
    assert autoscaled.condition("Ready")["reason"] == "ScaledToZero"
    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(httpx.post, f"{autoscaled.url()}/v1/chat/completions", json=CHAT, timeout=600)
        autoscaled.wait_for("Ready", "True", "WakingUp", 120)
        answer = asked.result()
    assert answer.status_code == 200, answer.text
    print(f"answered after {time.monotonic() - began:.0f} s from zero")
    with load(autoscaled.url(), kept=3, fresh=3, long=1) as working:
        wait_until(lambda: autoscaled.status["readyReplicas"] == 2, 600, lambda: json.dumps(autoscaled.status))
        time.sleep(30)  # both work
    assert working.count.lost == [], str(working.count)
    wait_until(lambda: not autoscaled.workers(), 600, "the last worker pod to go again")
    assert autoscaled.status["lastWakeSeconds"] > 0


def test_a_replica_that_shall_be_there_from_now_on_is_waited_for(autoscaled: User) -> None:
    """The least number of replicas is raised while it sleeps: the head answers until the replica does."""
    wait_until(lambda: autoscaled.status.get("atZeroSince"), 600, lambda: json.dumps(autoscaled.status))
    with load(autoscaled.url(), kept=1, fresh=2, long=0) as working:
        autoscaled.edit("scaling", {**SCALING, "min": 1})
        autoscaled.wait_for("Ready", "True", "Serving", 600)
        wait_until(lambda: _heads_are_out(autoscaled), 120, "the head to leave the Service")
        time.sleep(30)  # the replica alone
    assert working.count.requests > 0
    assert working.count.lost == [], str(working.count)


def _heads_are_out(user: User) -> bool:
    return all(one["spec"]["excludeHeadPodFromServeSvc"] for one in user.read("rayservices")["items"])
