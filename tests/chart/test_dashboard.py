"""The dashboard of the chart: queries that Prometheus can read, over series that the pages of metrics have."""

from __future__ import annotations

import json
import re

import dashboard
import promql_parser
import pytest
from chart.conftest import CHART, ROOT, Chart
from chart.test_alerts import families

pytestmark = pytest.mark.chart

PAGE = (ROOT / "docs" / "operations" / "metrics.md").read_text("utf-8")
COMMITTED = (CHART / "dashboard.json").read_text("utf-8")
SERIES = re.compile(r"(?:sglang_operator_|sglang:|haproxy_|ray_)\w+")
OF_HISTOGRAMS = re.compile(r"_bucket$")
PANELS = {graph.title: graph for graphs in dashboard.ROWS.values() for graph in graphs}


def known() -> set[str]:
    """Series of the operator, and those of the table of an endpoint's pages."""
    return families() | set(re.findall(r"^\| `([^`]+)` \| \d+ \|", PAGE, re.MULTILINE))


@pytest.mark.parametrize("expression", list(dashboard.expressions()))
def test_a_query_that_prometheus_reads_over_series_that_exist(expression: str) -> None:
    promql_parser.parse(expression.replace("$__rate_interval", "5m"))
    used = {OF_HISTOGRAMS.sub("", name) for name in SERIES.findall(expression)}
    assert used
    assert used <= known()


@pytest.mark.parametrize("title", list(PANELS))
def test_lines_are_named_by_labels_that_the_query_leaves(title: str) -> None:
    for line, expression in PANELS[title].lines.items():
        kept = re.search(r"\w+ by \(([^)]*)\)", expression)
        assert set(re.findall(r"{{(\w+)}}", line)) <= set(kept[1].split(", ") if kept else ())


def test_every_series_of_the_page_s_engines_is_shown() -> None:
    """Or it is no table of what to look at."""
    shown = set(SERIES.findall(" ".join(dashboard.expressions()).replace("_bucket", "")))
    hidden = {name for name in known() if name.startswith("sglang:")} - shown
    assert hidden == {"sglang:gen_throughput", "sglang:num_requests_total"}, "rates and answers show the same"


def test_a_choice_of_an_endpoint_reaches_every_panel_of_endpoints() -> None:
    for title, graphs in dashboard.ROWS.items():
        lines = [expression for graph in graphs for expression in graph.lines.values()]
        assert all("$endpoint" in line and "$namespace" in line for line in lines) == (title != "Operator")


def test_panels_have_numbers_of_their_own() -> None:
    made = json.loads(COMMITTED)
    ids = [panel["id"] for panel in made["panels"]]
    assert len(set(ids)) == len(ids) == len(PANELS) + len(dashboard.ROWS)
    assert [one["name"] for one in made["templating"]["list"]] == ["datasource", "namespace", "endpoint"]


def test_helm_leaves_it_as_it_is(chart: Chart) -> None:
    place = {"namespace": "grafana", "annotations": {"grafana_folder": "Models"}}
    rendered = chart.render({"metrics": {"dashboard": {"enabled": True, "labels": {"team": "models"}, **place}}})
    (made,) = (one for one in rendered if one["metadata"]["name"].endswith("-dashboard"))
    assert (made["metadata"]["namespace"], made["metadata"]["annotations"]) == ("grafana", place["annotations"])
    assert {"grafana_dashboard": "1", "team": "models"}.items() <= made["metadata"]["labels"].items()
    assert json.loads(made["data"]["sglang-endpoints.json"]) == json.loads(COMMITTED)
