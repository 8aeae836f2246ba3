"""The distribution's Prometheus, started by a test: `make cluster-tools` installs it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml
from cannot_run import cannot_run
from waiting import wait_until

from sglang_serve.local.ports import free_port

ROOT = Path(__file__).parents[1]
ALERTS = ROOT / "charts" / "sglang-operator" / "alerts.yaml"
SECONDS = 60.0
ALL = {"$__rate_interval": "10s", "$namespace": ".*", "$endpoint": ".*"}  # as Grafana asks when nothing is chosen
Object = dict[str, Any]
Found = list[Object]


def program(name: str) -> str:
    """Path of `prometheus` or `promtool`. Without it the test is skipped, and fails in CI."""
    found = shutil.which(name)
    if found is None:
        cannot_run(f"no {name} here: run `make cluster-tools` as root on Debian or Ubuntu")
    return found


class Prometheus:
    """One that runs, with the chart's alerts."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def answers(self) -> bool:
        """It is up."""
        try:
            return self._client.get("/status/buildinfo").is_success
        except httpx.TransportError:
            return False

    def read(self, path: str, **query: str) -> Any:
        """`data` of an answer. Raises httpx.HTTPStatusError, also for what it cannot evaluate."""
        return self._client.get(path, params=query).raise_for_status().json()["data"]

    def ask(self, expression: str) -> Found:
        """What a panel of the dashboard shows now."""
        for variable, value in ALL.items():
            expression = expression.replace(variable, value)
        found: Found = self.read("/query", query=expression)["result"]
        return found


@contextmanager
def prometheus(scratch: Path, jobs: list[Object]) -> Iterator[Prometheus]:
    """It scrapes each second; it ends with the block."""
    port, file, log = free_port(), scratch / "prometheus.yaml", scratch / "prometheus.log"
    every = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    file.write_text(yaml.safe_dump({"global": every, "rule_files": [str(ALERTS)], "scrape_configs": jobs}))
    options = (f"--config.file={file}", f"--storage.tsdb.path={scratch}/tsdb", f"--web.listen-address=127.0.0.1:{port}")
    with log.open("w") as output:
        process = subprocess.Popen([program("prometheus"), *options], stdout=output, stderr=output)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1") as client:
            made = Prometheus(client)
            wait_until(made.answers, SECONDS, log.read_text)
            yield made
    finally:
        process.terminate()
        process.wait(SECONDS)


def operator_job(port: int, namespace: str) -> Object:
    """As the chart's ServiceMonitor has it: the target's labels give way to those of the series."""
    target = {"targets": [f"127.0.0.1:{port}"], "labels": {"namespace": namespace, "pod": "operator-0"}}
    return {"job_name": "operator", "honor_labels": True, "static_configs": [target]}


def documented_monitor() -> Object:
    """The PodMonitor in docs/operations/metrics.md."""
    page = (ROOT / "docs" / "operations" / "metrics.md").read_text("utf-8")
    (block,) = (text for text in page.split("```yaml\n") if "kind: PodMonitor" in text)
    monitor: Object = yaml.safe_load(block.partition("```")[0])
    return monitor


def pod_jobs(monitor: Object, pods: Sequence[Object]) -> list[Object]:
    """What the Prometheus operator makes of a PodMonitor, as far as ours go; for these pods, because Debian's build of
    Prometheus cannot look for them itself."""
    spec = monitor["spec"]
    (selected,) = (one["key"] for one in spec["selector"]["matchExpressions"] if one["operator"] == "Exists")
    chosen = [pod for pod in pods if selected in pod["metadata"]["labels"]]
    return [
        {
            "job_name": page["port"],
            "honor_labels": page.get("honorLabels", False),
            "static_configs": [
                {
                    "targets": [f"{pod['status']['podIP']}:{port}"],
                    "labels": _labels(pod, page["port"], spec["podTargetLabels"]),
                }
                for pod in chosen
                for port in _ports(pod, page["port"])
            ],
        }
        for page in spec["podMetricsEndpoints"]
    ]


def _ports(pod: Object, name: str) -> list[int]:
    ports = (port for container in pod["spec"]["containers"] for port in container.get("ports") or ())
    return [port["containerPort"] for port in ports if port.get("name") == name]


def _labels(pod: Object, port: str, copied: Sequence[str]) -> dict[str, str]:
    metadata = pod["metadata"]
    own = {"namespace": metadata["namespace"], "pod": metadata["name"], "endpoint": port}
    renamed = str.maketrans("./-", "___")
    return {**own, **{label.translate(renamed): metadata["labels"][label] for label in copied}}
