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
SPEC, MONITOR, POLICY = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))


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
