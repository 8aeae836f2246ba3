"""LoRA adapters in real pods: a change of the list reaches those that run, a new pod comes with all; under load."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cluster.actors import Operator, User, load, somebody, wait_until
from cluster.endpoints import GREEDY, administered, engine_of, tiny_endpoint
from localcluster.cluster import LocalCluster
from tiny_models import find_engine_python, made_by

SHIM = Path(__file__).parents[1] / "engine/lora_on_cpu"
OWNER = "test-adapters"  # of the mirror's directory with what this module puts there
ENGINE = {"max_total_tokens": 65_536, "lora_backend": "torch_native", "dtype": "float32"}
pytestmark = [pytest.mark.timeout(1800), pytest.mark.long]


@pytest.fixture(scope="module")
def mirrored(cluster: LocalCluster) -> Iterator[None]:
    """The adapters, and what lets SGLang's LoRA run on a CPU, where the nodes mount their models from."""
    target = cluster.models / OWNER
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(made_by("tiny_adapters", find_engine_python()), target)
    shutil.copytree(SHIM, target / SHIM.name)
    for path in target.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)  # pods are another user
    yield
    shutil.rmtree(target)


@pytest.fixture(scope="module")
def serving(cluster: LocalCluster, operator: Operator, mirrored: None) -> Iterator[User]:
    """An endpoint with one adapter that fits and one that does not."""
    del operator, mirrored  # they are there
    with somebody(cluster, "adapters") as user:
        user.make_admin_key()
        user.apply(endpoint(row("sql"), row("foreign")))
        user.wait_for("Ready", "True", seconds=900)
        yield user


def row(name: str) -> dict[str, str]:
    return {"name": name, "uri": f"hf://{OWNER}/{name}"}


def endpoint(*adapters: dict[str, str]) -> dict[str, Any]:
    made = administered(tiny_endpoint())
    shim = {"name": "PYTHONPATH", "value": f"/mirror/{OWNER}/{SHIM.name}"}
    made["spec"]["engine"] = engine_of({"args": ENGINE, "env": [shim]})
    made["spec"]["model"] |= {"lora": {"maxRank": 16, "maxLoaded": 5}, "adapters": list(adapters)}
    return made


def states(user: User) -> dict[str, tuple[str, str]]:
    """By adapter: its state, and how many of the replicas have it."""
    return {one["name"]: (one["state"], one["replicas"]) for one in user.status.get("adapters", ())}


def said(user: User, model: str) -> str:
    reply = httpx.post(f"{user.url()}/v1/completions", json={**GREEDY, "model": model}, timeout=120)
    assert reply.status_code == 200, reply.text
    return str(reply.json()["choices"][0]["text"])


def wait_for_states(user: User, **expected: tuple[str, str]) -> None:
    wait_until(lambda: states(user) == expected, 120, lambda: f"{expected}: {json.dumps(user.status, indent=1)}")


def test_one_that_fails_is_said_and_the_endpoint_is_ready(serving: User) -> None:
    wait_for_states(serving, sql=("Loaded", "1/1"), foreign=("Failed", "0/1"))
    why = {one["name"]: one.get("message", "") for one in serving.status["adapters"]}
    assert "made for another model" in why["foreign"]
    assert serving.condition("Ready")["status"] == "True"
    listed = httpx.get(f"{serving.url()}/v1/models", timeout=60).json()["data"]
    assert [one["id"] for one in listed[1:]] == ["sql"]
    assert said(serving, "sql") != said(serving, listed[0]["id"])


def test_a_change_of_the_list_reaches_running_pods_and_loses_nothing(serving: User) -> None:
    revision, pods, sql = serving.serving, serving.workers(), said(serving, "sql")
    serving.slow_down()
    with load(serving.url()) as working, working.event():
        serving.edit("model/adapters", [row("sql"), row("legal")])
        wait_for_states(serving, sql=("Loaded", "1/1"), legal=("Loaded", "1/1"))
        assert said(serving, "sql") == sql
        assert said(serving, "legal") != sql
    assert working.count.lost == [], str(working.count)
    assert (serving.serving, serving.workers()) == (revision, pods), "no rollout"


def test_a_replica_that_is_added_and_one_that_replaces_a_lost_one_have_all(serving: User) -> None:
    serving.run("scale", "sgl", serving.name, "--replicas=2")
    wait_for_both(serving)
    answers = {said(serving, "legal") for _ in range(8)}
    (lost, _) = serving.workers()
    serving.run("delete", "pod", lost, "--force", "--grace-period=0")
    wait_until(lambda: len(serving.workers()) == 2 and lost not in serving.workers(), 300, "another pod")
    wait_for_both(serving)
    answers |= {said(serving, "legal") for _ in range(8)}
    assert len(answers) == 1, "never the bare model"


def wait_for_both(user: User) -> None:
    wait_until(lambda: user.status["readyReplicas"] == 2, 600, lambda: json.dumps(user.status, indent=1))
    wait_for_states(user, sql=("Loaded", "2/2"), legal=("Loaded", "2/2"))
