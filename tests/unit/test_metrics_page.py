"""docs/operations/metrics.md: its YAML is valid, and its ports are those of the rendered pods."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import yaml
from monitoring import program
from unit.api_objects import endpoint

from sglang_operator.api import parse_endpoint
from sglang_operator.render import render_endpoint

PAGE = (Path(__file__).parents[2] / "docs" / "operations" / "metrics.md").read_text()
SPEC, MONITOR, SCRAPES, POLICY = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))


def ray_cluster(**spec: Any) -> dict[str, Any]:
    objects = render_endpoint(parse_endpoint(endpoint(**SPEC["spec"], **spec)))
    service = next(one for one in objects if one["kind"] == "RayService")
    cluster: dict[str, Any] = service["spec"]["rayClusterConfig"]
    return cluster


def worker() -> dict[str, Any]:
    template: dict[str, Any] = ray_cluster()["workerGroupSpecs"][0]["template"]
    return template


def ports_of_head(**spec: Any) -> dict[str, int]:
    template = ray_cluster(**spec)["headGroupSpec"]["template"]
    return {port["name"]: port["containerPort"] for port in template["spec"]["containers"][0]["ports"]}


def test_the_pages_are_where_the_page_says() -> None:
    told = {name: int(port) for port, name in re.findall(r"^\| (\d+) \| `([a-z-]+)`", PAGE, re.MULTILINE)}
    ports = {port["name"]: port["containerPort"] for port in worker()["spec"]["containers"][0]["ports"]}
    assert told == {name: port for name, port in ports.items() if "metrics" in name}


def test_of_the_heads_those_that_hold_requests_have_the_page_of_their_proxy() -> None:
    assert "the head too with `spec.scaling.min: 0`" in PAGE
    assert ports_of_head(scaling={"min": 0, "max": 1})["proxy-metrics"] == 9101
    assert "proxy-metrics" not in ports_of_head(scaling={"min": 1, "max": 2})


def test_the_monitor_looks_everywhere_and_keeps_the_labels_of_the_engine() -> None:
    spec = MONITOR["spec"]
    assert spec["namespaceSelector"] == {"any": True}
    assert [one["port"] for one in spec["podMetricsEndpoints"] if one.get("honorLabels")] == ["engine-metrics"]


def test_the_monitor_takes_all_of_them_from_all_pods() -> None:
    spec = MONITOR["spec"]
    assert {one["port"] for one in spec["podMetricsEndpoints"]} == {"metrics", "engine-metrics", "proxy-metrics"}
    (rule,) = spec["selector"]["matchExpressions"]
    assert rule["operator"] == "Exists"
    assert rule["key"] in worker()["metadata"]["labels"]


def test_the_shown_policy_lets_a_scraper_reach_every_page() -> None:
    told = {int(port) for port, _ in re.findall(r"^\| (\d+) \| `([a-z-]+)`", PAGE, re.MULTILINE)}
    (rule,) = POLICY["spec"]["ingress"]
    assert {one["port"] for one in rule["ports"]} == told
    (selected,) = POLICY["spec"]["podSelector"]["matchExpressions"]
    assert selected["key"] in ray_cluster()["headGroupSpec"]["template"]["metadata"]["labels"]


def test_prometheus_reads_the_shown_jobs(tmp_path: Path) -> None:
    """All but that they ask the API server for pods: Debian's Prometheus is built without that."""
    file = tmp_path / "prometheus.yml"
    jobs = [{**job, "static_configs": [{"targets": ["a:1"]}]} for job in SCRAPES["scrape_configs"]]
    assert [job.pop("kubernetes_sd_configs") for job in jobs] == [[{"role": "pod"}]] * 2
    file.write_text(yaml.safe_dump({"scrape_configs": jobs}))
    command = (program("promtool"), "check", "config", "--syntax-only", str(file))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_shown_jobs_take_what_the_monitors_take() -> None:
    of_endpoints, of_operator = SCRAPES["scrape_configs"]
    kept = [rule["regex"] for rule in of_endpoints["relabel_configs"] if rule.get("action") == "keep"]
    assert set(kept[1].split("|")) == {one["port"] for one in MONITOR["spec"]["podMetricsEndpoints"]}
    assert of_operator["honor_labels"] is True
    labels = {rule.get("target_label") for rule in of_endpoints["relabel_configs"]}
    assert {re.sub("[^a-z]", "_", label) for label in MONITOR["spec"]["podTargetLabels"]} <= labels
