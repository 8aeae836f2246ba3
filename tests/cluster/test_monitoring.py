"""A real Prometheus finds the pods as docs/operations/metrics.md has it, and every panel of the dashboard has data."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import dashboard
import httpx
import pytest
from cluster.actors import Operator, User, somebody, wait_until
from cluster.endpoints import engine_of, tiny_endpoint
from localcluster.cluster import LocalCluster
from monitoring import SECONDS, Prometheus, documented_monitor, operator_job, pod_jobs, prometheus

BODY = {"model": "any", "prompt": "License", "max_tokens": 16, "ignore_eos": True}
PANELS = [
    (graph.title, text) for graphs in dashboard.ROWS.values() for graph in graphs for text in graph.lines.values()
]
JOBS = {"metrics", "engine-metrics", "proxy-metrics", "operator"}
pytestmark = [pytest.mark.timeout(1800), pytest.mark.long]


@pytest.fixture(scope="module")
def counted(cluster: LocalCluster, operator: Operator) -> Iterator[User]:
    """An endpoint whose engine counts."""
    manifest = tiny_endpoint()
    manifest["spec"]["engine"] = engine_of({"args": {"enable_metrics": True}})
    with somebody(cluster, "monitoring") as user:
        user.apply(manifest)
        user.wait_for("Ready", "True", seconds=900)
        yield user


@pytest.fixture
def seen(operator: Operator, counted: User, tmp_path: Path) -> Iterator[Prometheus]:
    """Prometheus with the page's PodMonitor."""
    jobs = pod_jobs(documented_monitor(), counted.read("pods")["items"])
    with prometheus(tmp_path, [*jobs, operator_job(operator.port, "sglang-system")]) as made:
        yield made


def test_every_panel_shows_the_endpoint(seen: Prometheus, counted: User) -> None:
    def shows(expression: str) -> bool:
        httpx.post(f"{counted.url()}/v1/completions", json=BODY, timeout=60).raise_for_status()
        return bool(seen.ask(expression))

    wait_until(lambda: not down(seen), SECONDS, lambda: str(down(seen)))
    for title, expression in PANELS:
        wait_until(partial(shows, expression), SECONDS, f"{title}: {expression}")
    assert {target["labels"]["job"] for target in seen.read("/targets")["activeTargets"]} == JOBS
    names = {tuple(sorted(one["metric"].items())) for one in seen.ask(PANELS[0][1])}
    assert names == {(("name", counted.name), ("namespace", counted.namespace))}


def down(seen: Prometheus) -> dict[str, str]:
    """Pages that cannot be read, and why; a port of a pod without one is among them."""
    targets = seen.read("/targets")["activeTargets"]
    return {target["scrapeUrl"]: target["lastError"] or "unread" for target in targets if target["health"] != "up"}
