"""What fails around a serving endpoint, under streaming load: KubeRay, a pod."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence

import pytest
from cluster.actors import User, load, wait_until
from cluster.endpoints import colored
from localcluster.cluster import LocalCluster

from sglang_operator.cluster.metadata import name_of
from sglang_operator.cluster.pods import address
from sglang_operator.cluster.probe import Prober, Report
from sglang_operator.render.names import SERVE_PORT

SILENCE_SECONDS = 60
STREAMS, STREAM_TOKENS = 6, 3000  # a minute or more
DRAINED_SECONDS = 45  # of a replica without requests
pytestmark = [pytest.mark.timeout(1800), pytest.mark.long]


def test_an_evicted_worker_hands_over_first(serving: User) -> None:
    """As `kubectl drain` does it. The other replica takes what is new; what runs is finished."""
    scale(serving, 2)
    going = serving.workers()[0]
    serving.slow_down()
    with load(serving.url()) as working:
        evict(serving, going)
        wait_until(lambda: going not in serving.workers(), 600, f"{going} to go")
        wait_until(lambda: serving.status["readyReplicas"] == 2, 300, lambda: json.dumps(serving.status))
    assert working.count.lost == [], str(working.count)
    scale(serving, 1)


def test_what_came_in_through_an_evicted_worker_is_finished_by_the_other(serving: User) -> None:
    """Its HAProxy is the way of answers that other replicas give: it stays until they are whole."""
    scale(serving, 2)
    going, staying = serving.workers()
    serving.slow_down()
    with load(front(serving, going), kept=0, fresh=0, long=STREAMS, long_tokens=STREAM_TOKENS) as running:
        through_it = wait_until(lambda: all_under_way(serving), 60, lambda: str(under_way(serving)))
        assert through_it[staying] > 0
        evict(serving, going)  # and no client asks again
    wait_until(lambda: going not in map(name_of, serving.read("pods")["items"]), 120, f"{going} to end")
    assert running.count.lost == [], str(running.count)
    assert running.count.longest_seconds > DRAINED_SECONDS, "its own replica goes within that time"
    scale(serving, 1)


def test_a_lost_worker_takes_its_streams_along_and_no_others(serving: User) -> None:
    """As when its node loses power. The first streams come in through the other worker, where they would survive."""
    scale(serving, 2)
    going, staying = serving.workers()
    serving.slow_down()
    with load(front(serving, staying), kept=0, fresh=0, long=STREAMS, long_tokens=STREAM_TOKENS) as running:
        on_it = wait_until(lambda: all_under_way(serving), 60, lambda: str(under_way(serving)))[going]
        assert 0 < on_it < STREAMS
        serving.run("delete", "pod", going, "--force", "--grace-period=0")
        with load(serving.url()) as begun_later:
            wait_until(lambda: serving.status["readyReplicas"] == 1, 60, lambda: json.dumps(serving.status))
            wait_until(lambda: serving.status["readyReplicas"] == 2, 300, lambda: json.dumps(serving.status))
    assert len(running.count.lost) <= on_it, f"{running.count}, {on_it} ran on it: {running.count.lost}"
    # For a moment the Service still has an address at which nobody is: nothing was sent there.
    sent = [lost for lost in begun_later.count.lost if "ConnectionTimeoutError" not in lost.what]
    assert sent == [], str(begun_later.count)
    scale(serving, 1)


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


def all_under_way(user: User) -> dict[str, int]:
    """As under_way(), once all of STREAMS are."""
    found = under_way(user)
    return found if sum(found.values()) == STREAMS else {}


def under_way(user: User) -> dict[str, int]:
    """Requests in the replica of each worker, of those that have answered."""
    names = {address(pod): name_of(pod) for pod in user.pods("ray.io/node-type=worker")}
    return {names[one.node]: one.in_flight for one in asyncio.run(ask(list(names)))}


async def ask(addresses: list[str]) -> Sequence[Report]:
    """As the operator does."""
    prober = Prober()
    try:
        return (await prober.ask(addresses, generate=False)).reports
    finally:
        await prober.close()


def front(user: User, worker: str) -> str:
    """Of one pod, whichever replica it hands a request to."""
    return f"http://{address(user.read('pod', worker))}:{SERVE_PORT}"


def scale(user: User, replicas: int) -> None:
    """So many serve, and no other worker is left."""
    user.run("scale", "sgl", user.name, f"--replicas={replicas}")
    wait_until(lambda: user.status["readyReplicas"] == replicas, 300, lambda: json.dumps(user.status))
    wait_until(lambda: len(user.workers()) == replicas, 600, lambda: json.dumps(user.status))


def evict(user: User, pod: str) -> None:
    """Ask for the pod's eviction until the disruption budget allows it."""
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": user.namespace},
    }
    path = f"/api/v1/namespaces/{user.namespace}/pods/{pod}/eviction"
    user.run("create", f"--raw={path}", "--filename=-", stdin=json.dumps(body))
