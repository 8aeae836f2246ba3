"""A replica on two nodes, in two worker pods: it answers as one, and falls and comes back as one."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest
from cluster.actors import Operator, User, somebody, wait_until
from cluster.endpoints import tiny_endpoint
from localcluster.cluster import LocalCluster

BODY = {"model": "any", "prompt": "License", "max_tokens": 16, "temperature": 0, "ignore_eos": True}
pytestmark = [pytest.mark.timeout(1800), pytest.mark.long]


@pytest.fixture(scope="module")
def spread(cluster: LocalCluster, operator: Operator) -> Iterator[User]:
    """An endpoint of one replica, whose model lies over two pods."""
    manifest = tiny_endpoint()
    manifest["spec"]["parallelism"] = {"nodes": 2}
    manifest["spec"]["engine"]["args"] = {"dtype": "float32"}
    with somebody(cluster, "two-pods") as user:
        user.apply(manifest)
        user.wait_for("Ready", "True", seconds=900)
        yield user


def test_a_lost_pod_takes_the_replica_with_it_and_another_comes(spread: User) -> None:
    said, before, replica = ask(spread), workers(spread), replica_of(spread)
    assert (len(before), spread.status["readyReplicas"]) == (2, 1)
    assert len(spread.nodes()) == 2
    follower = next(name for name, ready in before.items() if not ready)
    spread.run("delete", "pod", follower, "--force", "--grace-period=0")
    wait_until(lambda: replica_of(spread) not in ("", replica), 600, lambda: json.dumps(spread.status))
    spread.wait_for("Ready", "True")
    assert set(before) - set(workers(spread)) == {follower}, "the other pod was kept"
    assert ask(spread) == said


def ask(user: User) -> str:
    reply = httpx.post(f"{user.url()}/v1/completions", json=BODY, timeout=120)
    assert reply.status_code == 200, reply.text
    return str(reply.json()["choices"][0]["text"])


def replica_of(user: User) -> str:
    """Name of the replica that answers; "" while none does."""
    try:
        reply = httpx.get(f"{user.url()}/-/replica", timeout=10)
    except httpx.HTTPError:
        return ""
    return str(reply.json().get("replica", "")) if reply.status_code == 200 else ""


def workers(user: User) -> dict[str, bool]:
    """Whether each worker pod is Ready, by name."""
    found = {}
    for item in user.read("pods", "--selector=ray.io/node-type=worker")["items"]:
        conditions = {one["type"]: one["status"] for one in item["status"].get("conditions", ())}
        found[item["metadata"]["name"]] = conditions.get("Ready") == "True"
    return found
