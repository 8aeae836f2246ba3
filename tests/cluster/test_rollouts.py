"""Rollouts of a real engine in real pods, under streaming load: what is lost, what is tried, what is said."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest
from cluster.actors import Operator, User, killed_again_and_again, load, wait_until
from cluster.endpoints import colored, engine_of
from localcluster.cluster import LocalCluster
from localcluster.shell import run
from tiny_models import find_engine_python

DEADLINE = 1800
FAILED_SECONDS = 900  # an engine that ends after its start is started three times
LEAST_KILLS = 3
PASSES = 20  # after a failure: none of them tries again
UNAUTHENTICATED = "UNAUTHENTICATED"
CALLS = {6379: "/ray.rpc.InternalKVGcsService/InternalKVKeys", 10001: "/ray.rpc.RayletDriver/ClusterInfo"}
CALL = """
import sys, grpc
address, method, token = sys.argv[1:]
metadata = [("authorization", f"Bearer {token}")] if token else []
try:
    grpc.insecure_channel(address).unary_unary(method)(b"", metadata=metadata, timeout=60)
    print("OK")
except grpc.RpcError as error:
    print(error.code().name)
"""
pytestmark = pytest.mark.timeout(DEADLINE)


def test_an_endpoint_serves(serving: User) -> None:
    assert serving.status["readyReplicas"] == 1
    assert serving.condition("Degraded")["status"] == "False"


def test_ray_wants_its_token(serving: User) -> None:
    """Its ports run whatever they are given. The NetworkPolicy alone would trust every network that enforces none."""
    (head,) = serving.read("pods", "--selector=ray.io/node-type=head")["items"]
    address, cluster = head["status"]["podIP"], head["metadata"]["labels"]["ray.io/cluster"]
    token = base64.b64decode(serving.read("secret", cluster)["data"]["auth_token"]).decode()
    given = {"none": "", "wrong": "0" * len(token), "right": token}
    headers = {name: {"Authorization": f"Bearer {one}"} if one else {} for name, one in given.items()}
    jobs = {name: httpx.get(f"http://{address}:8265/api/jobs/", headers=headers[name], timeout=60) for name in given}
    assert {name: one.status_code for name, one in jobs.items()} == {"none": 401, "wrong": 403, "right": 200}
    for port, method in CALLS.items():
        said = {name: call(f"{address}:{port}", method, one) for name, one in given.items()}
        assert said.pop("right") != UNAUTHENTICATED, f"port {port}"
        assert said == {"none": UNAUTHENTICATED, "wrong": UNAUTHENTICATED}, f"port {port}"


def call(address: str, method: str, token: str) -> str:
    """The status of a gRPC call, which only the environment of the engine can make."""
    return run(str(find_engine_python()), "-c", CALL, address, method, token, seconds=120).strip()


def test_upgrades_lose_nothing(serving: User, another_image: str, cluster: LocalCluster) -> None:
    """Environment; then argument and image, while the API server restarts."""
    with load(serving.url()) as working:
        with working.event():
            before = begin_upgrade(serving, colored("green"))
            serving.wait_for_switch(before)
        serving.wait_for_rollout(before)
        with working.event():
            before = begin_upgrade(serving, engine_of({"args": {"random_seed": 7}, "image": another_image}))
            wait_until(lambda: len(serving.ray_services()) == 2, 60, "a second revision")
            cluster.control_plane.restart("kube-apiserver")
            serving.wait_for_switch(before)
        serving.wait_for_rollout(before)
    assert serving.status["serving"]["image"] == another_image
    assert working.count.lost == [], str(working.count)
    assert working.count.requests > 20, str(working.count)


def begin_upgrade(user: User, engine: dict[str, Any]) -> str:
    """What serves before it."""
    before = user.serving
    user.slow_down()
    user.edit("engine", engine)
    return before


def test_bounds_change_in_place(serving: User, cluster: LocalCluster) -> None:
    """1 to 2 to 1: no rollout, no pod of the first replica restarted, and each replica on a node of its own."""
    revision, first = serving.serving, serving.workers()
    serving.slow_down()
    with load(serving.url()) as working:
        with working.event():
            serving.run("scale", "sgl", serving.name, "--replicas=2")
            wait_until(lambda: serving.status["readyReplicas"] == 2, 600, lambda: json.dumps(serving.status))
        nodes = serving.nodes()
        serving.run("scale", "sgl", serving.name, "--replicas=1")
        wait_until(lambda: len(serving.workers()) == 1, 600, lambda: json.dumps(serving.status))
    assert working.count.lost == [], str(working.count)
    assert serving.serving == revision
    assert len(first) == 1
    assert len(nodes) == min(2, len(cluster.nodes))


def test_autoscaling_comes_and_goes_in_place(serving: User) -> None:
    """The replica itself stays: Ray Serve would restart it in its pod for what it takes for other code (ADR 0020)."""
    before = wait_until(lambda: report_but(serving), 60, "a report")
    with load(serving.url()) as working:
        serving.edit("scaling", {"min": 1, "max": 1})
        scaled = wait_until(lambda: report_but(serving, before["config_id"]), 180, "the replica to hear of it")
        serving.run("patch", "sgl", serving.name, "--type=json", '--patch=[{"op": "remove", "path": "/spec/scaling"}]')
        after = wait_until(lambda: report_but(serving, scaled["config_id"]), 180, "the replica to hear of it again")
    assert working.count.lost == [], str(working.count)
    assert before["config_id"] == after["config_id"]
    assert before["replica"] == scaled["replica"] == after["replica"]


def report_but(user: User, config_id: str = "") -> dict[str, Any] | None:
    """What the replica says of itself, once that is of another configuration. While it takes one a front may know of no
    replica: requests wait then, this question does not."""
    reply = httpx.get(f"{user.url()}/-/replica", timeout=60)
    found: dict[str, Any] = reply.json() if reply.status_code == httpx.codes.OK else {}
    return found if found.get("config_id", config_id) != config_id else None


@pytest.mark.parametrize(
    ("broken", "reason", "logged"),
    [
        # Only the engine knows what the model can.
        ({"args": {"context_length": 10_000_000}}, "BadArgument", "context_length (10000000) is greater than"),
        # A registry that does not answer is waited for; a name that is none needs no answer.
        pytest.param({"image": "localhost/NO-SUCH-IMAGE:1"}, "ImagePullFailed", "", marks=pytest.mark.long),
        # Its warm-up has eight outputs. The ninth is the first that somebody asks for, the operator most often: that
        # answer is no proof yet.
        pytest.param(
            {"env": [{"name": "SGLANG_TEST_CRASH_AFTER_STREAM_OUTPUTS", "value": "9"}]},
            "EngineCrashed",
            "",
            marks=pytest.mark.long,
        ),
    ],
)
def test_a_broken_upgrade_moves_no_traffic_and_is_tried_once(
    serving: User, operator: Operator, broken: dict[str, Any], reason: str, logged: str
) -> None:
    before, moved, engine = serving.serving, serving.moved_at, serving.read("sgl", serving.name)["spec"]["engine"]
    serving.slow_down()
    with load(serving.url()) as working, working.event():
        serving.edit("engine", engine_of(broken))
        degraded = serving.wait_for("Degraded", "True", "RevisionFailing", FAILED_SECONDS)
        assert reason in degraded["message"]
        wait_until(lambda: len(serving.workers()) == 1, 120, "the pods of what failed to go")
        failed = serving.status["revisions"][0]
        assert (failed["state"], failed["reason"]) == ("Failed", reason)
        assert logged in "\n".join(failed.get("log", ()))
        attempts = {item["metadata"]["uid"] for item in serving.read("rayservices")["items"]}
        operator.restart()
        look_again(serving, operator, PASSES)
        assert {item["metadata"]["uid"] for item in serving.read("rayservices")["items"]} <= attempts
        assert serving.serving == before
        serving.edit("engine", engine)  # back to what serves: no rollout
        serving.wait_for("Degraded", "False")
    assert working.count.lost == [], str(working.count)
    assert (serving.serving, serving.moved_at) == (before, moved), "not even there and back"


def look_again(user: User, operator: Operator, passes: int) -> None:
    """Make the operator look at the endpoint so many times."""
    for number in range(passes):
        before = operator.passes()
        user.run("annotate", "sgl", user.name, f"look={number}", "--overwrite")
        wait_until(lambda: operator.passes() > before, 60, "a pass")  # noqa: B023 - called here only


def test_an_operator_killed_again_and_again_finishes_the_rollout(serving: User, operator: Operator) -> None:
    before = serving.serving
    serving.slow_down()
    with load(serving.url()) as working, killed_again_and_again(operator) as kills:
        with working.event():
            serving.edit("engine", colored("blue"))
            serving.wait_for_switch(before)
        serving.wait_for_rollout(before)
    assert working.count.lost == [], str(working.count)
    assert kills.number >= LEAST_KILLS, f"{kills}: too few to prove anything"


@pytest.mark.long
def test_recreate_is_an_outage_and_says_so(serving: User) -> None:
    before = serving.serving
    serving.edit("upgrade", {"strategy": "Recreate", "drainSeconds": 30})
    serving.edit("engine", colored("black"))
    serving.wait_for("Progressing", "True", "Recreating", 60)
    serving.wait_for_rollout(before)
    serving.wait_for("Ready", "True")
