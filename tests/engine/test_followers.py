"""Other nodes of a replica, on a real Ray of two nodes: which commit they get, and what a start counts. No engine."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine import hub_server
from engine.hub_server import REPOSITORY, Hub

ROOT = Path(__file__).parents[2]
FIRST, SECOND = "1" * 40, "2" * 40
# A replica finds the commit; then the branch moves; then come its follower, on another node, and another replica.
REPLICAS = """
import json, os
import ray
from ray.cluster_utils import Cluster
from ray.util.placement_group import placement_group
from sglang_serve import args
from sglang_serve.commit import RayStore
from sglang_serve.followers import Followers
from sglang_serve.part import Part

serve_args = args.ServeArgs(endpoint="e", model=args.ModelArgs("hf://org/name"), revision="e-1")


@ray.remote(num_cpus=0)
def commit_of(name):
    part = Part(serve_args, name, os.environ)
    part.resolve(RayStore())
    return part.commit


def main(cluster):
    cluster.add_node(num_cpus=1)
    cluster.connect()
    first = ray.get(commit_of.remote("first"))
    print("found", flush=True)
    input()
    group = placement_group([{"CPU": 1}, {"CPU": 1}], strategy="STRICT_SPREAD")
    ray.get(group.ready())
    others = Followers(args.to_wire(serve_args), "first", group)
    others.fetch(first)
    others._get(others._fetched)
    others.stop()
    print(json.dumps([first, ray.get(commit_of.remote("second"))]))


cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
try:
    main(cluster)
finally:
    ray.shutdown()
    cluster.shutdown()
"""
# An engine without processes in place of SGLang's: what counts is what the follower makes of its start.
READY = """
import sys
from types import SimpleNamespace
from sglang_serve import args, backoff, followers
from sglang_serve.part import Part

Part.load = lambda *_: SimpleNamespace(pids=[])
wire = args.to_wire(args.ServeArgs(endpoint="e", model=args.ModelArgs(f"file://{sys.argv[1]}")))
one = followers.Follower(wire, "r", 1, "")
backoff.note_failure(one._part.state)
one.fetch("")
one.load("127.0.0.1:1")
print(backoff.failed_starts(one._part.state))
one.stop()
"""


@pytest.fixture
def hub() -> Iterator[Hub]:
    with hub_server.running(Hub()) as one:
        one.push(FIRST, {"config.json": b"{}"})
        yield one


@pytest.fixture
def env(hub: Hub) -> Iterator[dict[str, str]]:
    with tempfile.TemporaryDirectory(prefix="f-") as scratch:  # the path of a socket must be short
        ray = {"RAY_TMPDIR": scratch, "RAY_USAGE_STATS_ENABLED": "0"}
        places = {"HF_HOME": f"{scratch}/hf", "HF_ENDPOINT": hub.url, "SGLANG_SERVE_STATE_DIR": f"{scratch}/s"}
        yield {**os.environ, **ray, **places, "PYTHONPATH": f"{ROOT}/images"}


def test_all_replicas_and_nodes_serve_the_commit_of_the_first(
    engine_python: Path, hub: Hub, env: dict[str, str]
) -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [engine_python, "-c", REPLICAS], env=env, stdin=pipe, stdout=pipe, stderr=pipe, text=True
    ) as process:
        assert process.stdout
        lines = iter(process.stdout.readline, "")
        assert any(line == "found\n" for line in lines), process.communicate()
        hub.push(SECOND, {"config.json": b"[]"})
        out, err = process.communicate("\n")
    assert process.returncode == 0, err[-3000:]
    assert json.loads(out.splitlines()[-1]) == [FIRST, FIRST], err[-3000:]
    asked = [one.split()[1] for one in hub.asked if "/revision/" in one]
    assert [one.partition("?")[0].rpartition("/")[2] for one in asked] == ["main", FIRST]
    assert REPOSITORY in asked[0]


def test_a_follower_that_is_ready_ends_the_count_of_failed_starts(
    engine_python: Path, env: dict[str, str], tiny_model: Path
) -> None:
    done = subprocess.run(
        [engine_python, "-c", READY, tiny_model], env=env, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1:] == ["0"], done.stderr[-3000:]
