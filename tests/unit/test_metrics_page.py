"""docs/operations/metrics.md: its YAML is valid, and its ports are those of the rendered pods."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from unit.api_objects import endpoint

from sglang_operator.api import parse_endpoint
from sglang_operator.render import render_endpoint

PAGE = (Path(__file__).parents[2] / "docs" / "operations" / "metrics.md").read_text()
SPEC, MONITOR = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))


def worker() -> dict[str, Any]:
    objects = render_endpoint(parse_endpoint(endpoint(**SPEC["spec"])))
    service = next(one for one in objects if one["kind"] == "RayService")
    template: dict[str, Any] = service["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["template"]
    return template


def test_the_pages_are_where_the_page_says() -> None:
    told = {name: int(port) for port, name in re.findall(r"^\| (\d+) \| `([a-z-]+)`", PAGE, re.MULTILINE)}
    ports = {port["name"]: port["containerPort"] for port in worker()["spec"]["containers"][0]["ports"]}
    assert told == {name: port for name, port in ports.items() if "metrics" in name}


def test_the_monitor_takes_all_of_them_from_all_pods() -> None:
    spec = MONITOR["spec"]
    assert {one["port"] for one in spec["podMetricsEndpoints"]} == {"metrics", "engine-metrics", "proxy-metrics"}
    (rule,) = spec["selector"]["matchExpressions"]
    assert rule["operator"] == "Exists"
    assert rule["key"] in worker()["metadata"]["labels"]
