"""The alerts of the chart: expressions that Prometheus can read, over series that the operator has."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from chart.conftest import CHART, ROOT, Chart
from monitoring import program

from sglang_operator.app.metrics import Metrics

pytestmark = pytest.mark.chart

PAGE = ROOT / "docs" / "operations" / "operator.md"
CASES = Path(__file__).with_name("alerts_test.yaml")
GROUPS: dict[str, Any] = yaml.safe_load((CHART / "alerts.yaml").read_text("utf-8"))
RULES = {rule["alert"]: rule for group in GROUPS["groups"] for rule in group["rules"]}
SERIES = re.compile(r"sglang_operator_\w+")


def families() -> set[str]:
    """Names of the operator's metrics, as its page has them."""
    return set(re.findall(r"^# TYPE (\S+) ", Metrics().text().decode(), re.MULTILINE))


@pytest.mark.parametrize("name", RULES)
def test_an_expression_that_prometheus_reads_over_series_that_exist(name: str) -> None:
    expression = RULES[name]["expr"]
    promql_parser.parse(expression)
    used = set(SERIES.findall(expression))
    assert used
    assert used <= families()


@pytest.mark.parametrize("name", RULES)
def test_a_text_names_only_labels_that_the_expression_leaves(name: str) -> None:
    rule = RULES[name]
    named = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
    kept = re.match(r"\w+ by \(([^)]*)\)", rule["expr"])
    assert named <= set(kept[1].split(", ") if kept else ())
    assert rule["labels"]["severity"] in {"critical", "warning"}


def test_each_fires_when_it_should_and_not_else(tmp_path: Path) -> None:
    """By Prometheus itself, over the series and times in alerts_test.yaml."""
    for file in (CHART / "alerts.yaml", CASES):
        shutil.copy(file, tmp_path)
    command = (program("promtool"), "test", "rules", CASES.name)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    checks = [check for one in yaml.safe_load(CASES.read_text("utf-8"))["tests"] for check in one["alert_rule_test"]]
    assert {check["alertname"] for check in checks if "exp_alerts" in check} == set(RULES)


def test_the_page_says_what_to_do_about_each() -> None:
    rows = re.findall(r"^\| `(SGLang\w+)` \| (\d+) min \|", PAGE.read_text("utf-8"), re.MULTILINE)
    assert rows == [(name, rule["for"].removesuffix("m")) for name, rule in RULES.items()]


def test_helm_leaves_them_as_they_are(chart: Chart) -> None:
    values = {"metrics": {"prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}}}}
    (made,) = (one for one in chart.render(values) if one["kind"] == "PrometheusRule")
    assert made["spec"] == GROUPS
    assert made["metadata"]["labels"]["release"] == "prometheus"
