"""One page for the replicas of a pod: each with its labels, each family once, dead ones not at all."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.registry import CollectorRegistry

from sglang_serve import exporter, leftovers

LABELS = {"endpoint": "e", "revision": "e-1"}
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;q=0.5"
)
# As an engine counts: in processes of its own, whose directory is in the environment before the import.
COUNT = """
import os
import sys
os.environ["PROMETHEUS_MULTIPROC_DIR"] = sys.argv[1]
from prometheus_client import Counter, Gauge, Histogram
requests = Counter("sglang:requests", "how many", ["model_name", "endpoint"])
requests.labels("m", "/generate").inc(float(sys.argv[2]))
requests.labels("m", "/v1/models").inc(1)
Histogram("sglang:seconds", "how long", buckets=[1]).observe(float(sys.argv[2]))
"""


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """Two replicas that live and have counted 3 and 4, one that fetches its model, one that was killed."""
    held = [leftovers.claim(tmp_path, name) for name in ("a", "b", "c", "dead")]
    for directory, number in zip(held, "3479", strict=True):
        if directory.path.name != "c":
            (directory.path / leftovers.METRICS).mkdir()
            path = str(directory.path / leftovers.METRICS)
            subprocess.run([sys.executable, "-c", COUNT, path, number], check=True)
    held[3]._lock.close()  # as the kernel does it
    yield tmp_path
    for directory in held[:3]:
        directory.remove()


def test_each_replica_has_its_labels(state: Path) -> None:
    registry = CollectorRegistry()
    registry.register(exporter.AllReplicas(state, LABELS))
    for replica, number in (("a", 3), ("b", 4)):
        labels = {**LABELS, "replica": replica, "model_name": "m"}
        paths = {"/generate": number, "/v1/models": 1}  # which SGLang has in a label that is called as ours
        for path, count in paths.items():
            found = registry.get_sample_value("sglang:requests_total", {**labels, "exported_endpoint": path})
            assert found == count
    assert {sample.labels["replica"] for family in registry.collect() for sample in family.samples} == {"a", "b"}


def test_each_family_is_there_once(state: Path) -> None:
    names = [family.name for family in exporter.AllReplicas(state, LABELS).collect()]
    assert sorted(names) == ["sglang:requests", "sglang:seconds"]


def test_a_replica_that_goes_while_it_is_read_takes_only_its_own_with_it(state: Path) -> None:
    """Its files are listed first, then opened: a link to nothing stands for one that was removed in between."""
    (state / "a" / leftovers.METRICS / "counter_7.db").symlink_to("removed")
    families = exporter.AllReplicas(state, LABELS).collect()
    assert {sample.labels["replica"] for family in families for sample in family.samples} == {"b"}


@pytest.mark.parametrize("accept", ["*/*", PROMETHEUS_2])
def test_the_next_replica_takes_the_port_when_it_is_free(state: Path, accept: str) -> None:
    refused = threading.Event()
    with socket.create_server(("0.0.0.0", 0)) as other:
        port = other.getsockname()[1]

        def sleep(_: float) -> None:
            refused.set()
            other.close()

        exporter.serve(port, exporter.AllReplicas(state, LABELS), sleep).join(10)
    assert refused.is_set()
    page = httpx.get(f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept})
    labels = 'endpoint="e",exported_endpoint="/generate",model_name="m",replica="b",revision="e-1"'
    assert f"sglang:requests_total{{{labels}}} 4.0" in page.text
