"""What an endpoint costs while it serves nobody, what it costs at zero, and how long its first answer takes from there.

    PYTHONPATH=tests:hack/cluster:bench python bench/endpoint_cost.py --rounds 3 --json endpoint-cost.json

On the cluster of `make cluster`, with the tiny model: what is measured is everything but a model. Memory and processor
time are what the kubelet counts for the pods of the endpoint (the working set, which is what limits are about).
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
from cluster.actors import User, wait_until
from cluster.endpoints import put_tiny_model, tiny_endpoint
from hitless import READY_SECONDS, endpoint
from localcluster import tools
from localcluster.cluster import LocalCluster

SETTLE_SECONDS = 30.0  # after a start: Ray's workers that nobody uses end
LOOK_SECONDS = 60.0
IDLE_SECONDS = 120  # longer than both
SCALING = {
    "min": 0,
    "max": 1,
    "holdSeconds": 600,
    "idleSecondsBeforeZero": IDLE_SECONDS,
    "downscaleDelaySeconds": 10,
}
ASK = {"prompt": "hi", "max_tokens": 8, "ignore_eos": True, "stream": True}


@dataclass(frozen=True)
class Cost:
    """Of the endpoint's pods together, by whether they are heads or workers."""

    replicas: int
    memory_mib: Mapping[str, int]
    milli_cores: Mapping[str, int]


@dataclass(frozen=True)
class Round:
    """One way from one replica to none and back."""

    serving: Cost
    at_zero: Cost
    first_token_seconds: float
    """Of a request that finds no replica, from its first byte."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--json", type=Path, help="where to write the numbers")
    given = options.parse_args()
    cluster = LocalCluster(tools.cache() / "run", outlives=True)
    put_tiny_model(cluster.models)
    manifest = tiny_endpoint()
    manifest["spec"]["scaling"] = SCALING
    with tempfile.TemporaryDirectory() as scratch, endpoint(cluster, Path(scratch), manifest) as (user, _):
        rounds = [measure(user) for _ in range(given.rounds)]
    if given.json:
        given.json.write_text(json.dumps([asdict(one) for one in rounds], indent=1) + "\n")


def measure(user: User) -> Round:
    time.sleep(SETTLE_SECONDS)
    serving = cost(user)
    wait_until(lambda: not user.workers(), READY_SECONDS, "no replica")
    at_zero = cost(user)
    began = time.monotonic()
    with httpx.stream("POST", f"{user.url()}/v1/completions", json=ASK, timeout=READY_SECONDS) as reply:
        lines = reply.iter_lines()
        next(line for line in lines if line.startswith("data: "))
        found = Round(serving, at_zero, round(time.monotonic() - began, 1))
        assert "data: [DONE]" in lines
    user.wait_for("Ready", "True", seconds=READY_SECONDS)
    print(json.dumps(asdict(found)), flush=True)
    return found


def cost(user: User) -> Cost:
    """Over the next minute."""
    before, began = used(user), time.monotonic()
    time.sleep(LOOK_SECONDS)
    after, seconds = used(user), time.monotonic() - began
    memory, cores = {"head": 0, "worker": 0}, {"head": 0, "worker": 0}
    for pod, (kind, bytes_, nanoseconds) in after.items():
        memory[kind] += bytes_ >> 20
        cores[kind] += round((nanoseconds - before[pod][2]) / seconds / 1e6)
    return Cost(len(user.workers()), memory, cores)


def used(user: User) -> dict[str, tuple[str, int, int]]:
    """Of each pod: head or worker, bytes of its working set, nanoseconds of processor time since its start."""
    found = [pod["metadata"] for pod in user.pods("ray.io/node-type")]
    kinds = {one["name"]: one["labels"]["ray.io/node-type"] for one in found}
    return {
        name: (kinds[name], pod["memory"]["workingSetBytes"], pod["cpu"]["usageCoreNanoSeconds"])
        for pod in summaries(user)
        if (name := pod["podRef"]["name"]) in kinds and pod["podRef"]["namespace"] == user.namespace
    }


def summaries(user: User) -> Iterator[dict[str, Any]]:
    """What each node's kubelet counts for its pods."""
    for node in user.read("nodes")["items"]:
        path = f"/api/v1/nodes/{node['metadata']['name']}/proxy/stats/summary"
        yield from json.loads(user.run("get", f"--raw={path}"))["pods"]


if __name__ == "__main__":
    main()
