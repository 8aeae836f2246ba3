"""A replica on two nodes: two raylets of this machine, and what befalls one of them befalls the whole replica.

In this order, on one application.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from engine.apps import TINY_ENGINE, ServeApp, command_line, endpoint
from engine.clients import answers
from engine.transformers_says import reference
from waiting import wait_until

from sglang_serve.health import PROBE_SECONDS

HERE = Path(__file__).parent
ENGINE = {"args": {**TINY_ENGINE, "dtype": "float32"}}
PROMPTS = ["License", "You may reproduce and distribute", "Copyright owner"]
TOKENS = 24
RESTART_SECONDS = 400  # of a replica, on two busy cores
NOTICED_SECONDS = 15
FAILURES = 3  # of the health check in a row, until Serve replaces a replica


class TwoRaylets:
    """A Ray of two worker nodes while the `with` block runs."""

    def __init__(self, python: Path, cores: int) -> None:
        self._command = [str(python), str(HERE / "two_raylets.py"), str(cores)]
        self._scratch = tempfile.TemporaryDirectory(prefix="r-")  # the path of a socket must be short

    def __enter__(self) -> TwoRaylets:
        names = {"RAY_TMPDIR": self._scratch.name, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
        env = {**os.environ, **names, "PYTHONPATH": f"{HERE.parents[1]}/images"}
        self._process = subprocess.Popen(
            self._command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout
        self.address = self._process.stdout.readline().strip()
        assert self.address, "Ray did not start"
        return self

    def __exit__(self, *_: object) -> None:
        children = psutil.Process(self._process.pid).children(recursive=True)
        self._process.communicate(timeout=60)  # closes its input: then it ends
        for left in psutil.wait_procs(children, timeout=10)[1]:
            left.kill()
        self._scratch.cleanup()

    def find(self, text: str) -> list[psutil.Process]:
        """Processes of all nodes whose command line holds `text`."""
        return [one for one in psutil.Process(self._process.pid).children(recursive=True) if text in command_line(one)]


@pytest.fixture(scope="module")
def nodes(engine_python: Path) -> Iterator[TwoRaylets]:
    with TwoRaylets(engine_python, cores=2) as ray:
        yield ray


@pytest.fixture(scope="module")
def app(engine_python: Path, tiny_model: Path, nodes: TwoRaylets) -> Iterator[ServeApp]:
    resources = {"cpu": "2", "memory": "6Gi"}
    made = endpoint(tiny_model, engine=ENGINE, parallelism={"nodes": 2}, resources=resources)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", nodes.address)
        # HAProxy asks for the replica at its node's address, which is not that of the head.
        serve = ServeApp(made, engine_python, http_host="0.0.0.0")
        serve.serve_config["proxy_location"] = "HeadOnly"  # the nodes share this machine's ports
        (deployment,) = serve.serve_config["applications"][0]["deployments"]
        deployment["health_check_period_s"] = 1
        with serve:
            yield serve


def ask(app: ServeApp) -> list[str]:
    body: dict[str, Any] = {"model": "tiny", "prompt": PROMPTS, "max_tokens": TOKENS, "ignore_eos": True}
    reply = httpx.post(f"{app.url}/v1/completions", json={**body, "temperature": 0}, timeout=120)
    assert reply.status_code == 200, reply.text
    return [choice["text"] for choice in reply.json()["choices"]]


def schedulers(nodes: TwoRaylets) -> dict[str, psutil.Process]:
    """The engine's ranks: that of the replica, and that of its follower."""
    found = {"follower" if is_below(one, "ray::Follower") else "replica": one for one in nodes.find("sglang::sched")}
    assert len(found) == 2, nodes.find("sglang")
    return found


def is_below(process: psutil.Process, text: str) -> bool:
    return any(text in command_line(parent) for parent in process.parents())


def raylets(nodes: TwoRaylets) -> set[int]:
    return {process.pid for process in nodes.find("raylet/raylet")}


def test_two_nodes_answer_as_one(app: ServeApp, nodes: TwoRaylets, engine_python: Path, tiny_model: Path) -> None:
    expected = reference(engine_python, "complete", tiny_model, prompts=PROMPTS, tokens=TOKENS)
    assert ask(app) == expected
    assert set(schedulers(nodes)) == {"replica", "follower"}


@pytest.mark.long
def test_a_follower_that_hangs_takes_the_replica_with_it_and_another_comes(app: ServeApp, nodes: TwoRaylets) -> None:
    before, raylets_before = schedulers(nodes), raylets(nodes)
    before["follower"].send_signal(signal.SIGSTOP)
    _, alive = psutil.wait_procs(before.values(), timeout=RESTART_SECONDS + FAILURES * (PROBE_SECONDS + 10))
    assert alive == [], "no rank of the old replica is left"
    wait_until(lambda: len(nodes.find("sglang::sched")) == 2 and answers(app.url), RESTART_SECONDS, "another serves")
    assert raylets(nodes) == raylets_before


@pytest.mark.long
def test_a_killed_replica_takes_its_follower_with_it_and_another_comes(app: ServeApp, nodes: TwoRaylets) -> None:
    before, raylets_before = schedulers(nodes), raylets(nodes)
    (replica,) = nodes.find("ServeReplica")
    replica.kill()
    _, alive = psutil.wait_procs(before.values(), timeout=NOTICED_SECONDS)
    assert alive == [], "no rank of the old replica is left"
    wait_until(lambda: len(nodes.find("sglang::sched")) == 2 and answers(app.url), RESTART_SECONDS, "another serves")
    assert raylets(nodes) == raylets_before


def test_a_follower_that_dies_takes_the_replica_with_it_at_once(app: ServeApp, nodes: TwoRaylets) -> None:
    before, raylets_before = schedulers(nodes), raylets(nodes)
    before["follower"].kill()
    _, alive = psutil.wait_procs(before.values(), timeout=NOTICED_SECONDS)
    assert alive == [], "no rank of the old replica is left"
    assert raylets(nodes) == raylets_before
