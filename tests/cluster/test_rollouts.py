"""Rollouts of a real engine in real pods, under streaming load: what is lost, what is tried, what is said."""

from __future__ import annotations

import os
import random
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster.actors import Operator, User, load, wait_until
from localcluster.cluster import LocalCluster
from tiny_models import find_engine_python, made_by

DEADLINE = 900
NAMESPACE = f"rollouts-{os.getpid()}"  # a kept cluster has those of earlier runs
ENDPOINT = Path(__file__).parent / "endpoint.yaml"
TINY = "test/tiny-qwen2"
PASSES = 20  # after a failure: none of them tries again
pytestmark = pytest.mark.timeout(DEADLINE)


def test_an_endpoint_serves(serving: User) -> None:
    assert serving.status["readyReplicas"] == 1
    assert serving.condition("Degraded")["status"] == "False"


def test_upgrades_lose_nothing(serving: User) -> None:
    with load(serving.url()) as working:
        for change in ({"env": [{"name": "COLOR", "value": "green"}]}, {"args": {"random_seed": 7}}):
            before = serving.serving
            serving.edit("engine", with_mirror(change))
            serving.wait_for_rollout(before)
    assert working.count.lost == [], str(working.count)
    assert working.count.requests > 20, str(working.count)


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"args": {"attention_backend": "no_such_backend"}, "argsCheck": "Warn"}, "BadArgument"),
        ({"image": "localhost/no-such-image:1"}, "ImagePullFailed"),
    ],
)
def test_a_broken_upgrade_moves_no_traffic_and_is_tried_once(
    serving: User, operator: Operator, broken: dict[str, Any], reason: str
) -> None:
    before, engine = serving.serving, serving.read("sgl", serving.name)["spec"]["engine"]
    with load(serving.url()) as working:
        serving.edit("engine", with_mirror(broken))
        degraded = serving.wait_for("Degraded", "True", "RevisionFailing")
        assert reason in degraded["message"]
        failed = serving.status["revisions"][0]
        assert (failed["state"], failed["reason"]) == ("Failed", reason)
        attempts = {item["metadata"]["uid"] for item in serving.read("rayservices")["items"]}
        operator.restart()
        look_again(serving, operator, PASSES)
        assert {item["metadata"]["uid"] for item in serving.read("rayservices")["items"]} <= attempts
        assert serving.serving == before
        serving.edit("engine", engine)  # back to what serves: no rollout
        serving.wait_for("Degraded", "False")
    assert working.count.lost == [], str(working.count)
    assert serving.serving == before


def with_mirror(engine: dict[str, Any]) -> dict[str, Any]:
    """A list is replaced as a whole: the environment keeps what endpoint.yaml needs."""
    kept = yaml.safe_load(ENDPOINT.read_text())["spec"]["engine"]["env"]
    return {**engine, "env": [*kept, *engine.get("env", [])]}


def look_again(user: User, operator: Operator, passes: int) -> None:
    """Make the operator look at the endpoint so many times."""
    for number in range(passes):
        before = operator.passes()
        user.run("annotate", "sgl", user.name, f"look={number}", "--overwrite")
        wait_until(lambda: operator.passes() > before, 60, "a pass")  # noqa: B023 - called here only


def test_an_operator_killed_again_and_again_finishes_the_rollout(serving: User, operator: Operator) -> None:
    before, done = serving.serving, threading.Event()
    chosen = random.Random(0)

    def kill() -> None:
        while not done.wait(chosen.uniform(2, 12)):
            operator.restart()

    with load(serving.url()) as working:
        serving.edit("engine", with_mirror({"env": [{"name": "COLOR", "value": "blue"}]}))
        killer = threading.Thread(target=kill)
        killer.start()
        try:
            serving.wait_for_rollout(before)
        finally:
            done.set()
            killer.join()
    assert working.count.lost == [], str(working.count)


@pytest.fixture(scope="module")
def tiny_on_nodes(cluster: LocalCluster) -> None:
    """The tiny model where the nodes mount their models from."""
    shutil.copytree(made_by("tiny_qwen2", find_engine_python()), cluster.models / TINY, dirs_exist_ok=True)
    for file in (cluster.models / TINY).iterdir():
        file.chmod(0o644)  # transformers writes weights for its own user only; pods are another


@pytest.fixture(scope="module")
def operator(cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    made = Operator(cluster.control_plane.kubeconfig, tmp_path_factory.mktemp("operator") / "log", free_port())
    made.start()
    yield made
    made.end()
    print(made.log.read_text()[-20_000:])


@pytest.fixture(scope="module")
def endpoint(cluster: LocalCluster, operator: Operator, tiny_on_nodes: None) -> Iterator[User]:
    user = User(cluster.control_plane.kubectl, NAMESPACE)
    cluster.control_plane.make_namespace(NAMESPACE)
    user.apply(manifest())
    yield user
    user.run("delete", "sgl", user.name)
    wait_until(lambda: not user.read("pods")["items"], DEADLINE, "the pods of a deleted endpoint to go")


def manifest() -> dict[str, Any]:
    """endpoint.yaml with a model that leaves the two cores to rollouts, and with streams that get their time."""
    made: dict[str, Any] = yaml.safe_load(ENDPOINT.read_text())
    made["metadata"]["name"] = "tiny"
    made["spec"]["model"] = {"uri": f"hf://{TINY}"}
    made["spec"]["resources"]["memory"] = "4Gi"
    made["spec"]["upgrade"] = {"drainSeconds": 300}
    return made


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


@pytest.fixture(scope="module")
def serving(endpoint: User) -> User:
    """The endpoint, answering."""
    endpoint.wait_for("Ready", "True", seconds=600)
    return endpoint
