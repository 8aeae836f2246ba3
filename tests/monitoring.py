"""The distribution's Prometheus, started by a test: `make cluster-tools` installs it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from free_port import free_port
from waiting import wait_until

ALERTS = Path(__file__).parents[1] / "charts" / "sglang-operator" / "alerts.yaml"
SECONDS = 60.0
ALL = {"$__rate_interval": "10s", "$namespace": ".*", "$endpoint": ".*"}  # as Grafana asks when nothing is chosen
Found = list[dict[str, Any]]


def program(name: str) -> str:
    """Path of `prometheus` or `promtool`. Without it the test is skipped, and fails in CI."""
    found = shutil.which(name)
    if found:
        return found
    reason = f"no {name} here: run `make cluster-tools` as root on Debian or Ubuntu"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


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
def prometheus(scratch: Path, jobs: list[dict[str, Any]]) -> Iterator[Prometheus]:
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


def operator_job(port: int, namespace: str) -> dict[str, Any]:
    """As the chart's ServiceMonitor has it: the target's labels give way to those of the series."""
    target = {"targets": [f"127.0.0.1:{port}"], "labels": {"namespace": namespace, "pod": "operator-0"}}
    return {"job_name": "operator", "honor_labels": True, "static_configs": [target]}


def pod_jobs(monitor: dict[str, Any], kubeconfig: Path) -> list[dict[str, Any]]:
    """What the Prometheus operator makes of a PodMonitor, as far as ours go."""
    spec = monitor["spec"]
    (selected,) = (one["key"] for one in spec["selector"]["matchExpressions"] if one["operator"] == "Exists")
    copied = {_meta(f"pod_label_{_name(label)}"): _name(label) for label in spec["podTargetLabels"]}
    place = {_meta("namespace"): "namespace", _meta("pod_name"): "pod", _meta("pod_container_port_name"): "endpoint"}
    labels = [{"source_labels": [source], "target_label": target} for source, target in {**copied, **place}.items()]
    return [
        {
            "job_name": endpoint["port"],
            "honor_labels": endpoint.get("honorLabels", False),
            "kubernetes_sd_configs": [{"role": "pod", "kubeconfig_file": str(kubeconfig)}],
            "relabel_configs": [
                _keep(_meta(f"pod_labelpresent_{_name(selected)}"), "true"),
                _keep(_meta("pod_container_port_name"), endpoint["port"]),
                *labels,
            ],
        }
        for endpoint in spec["podMetricsEndpoints"]
    ]


def _meta(name: str) -> str:
    return f"__meta_kubernetes_{name}"


def _name(label: str) -> str:
    return label.translate(str.maketrans("./-", "___"))


def _keep(source: str, value: str) -> dict[str, Any]:
    return {"action": "keep", "source_labels": [source], "regex": value}
