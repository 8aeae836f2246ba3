"""The chart's dashboard for Grafana, from a table of its panels. `make chart` writes it: review this, not the JSON."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Final

from grafana_foundation_sdk.builders.common import VizLegendOptions
from grafana_foundation_sdk.builders.dashboard import Dashboard, DatasourceVariable, QueryVariable, Row
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.timeseries import Panel
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DataSourceRef, VariableRefresh

HEIGHT: Final = 8
COLUMNS: Final = 3  # panels beside one another; Grafana has 24 units
PROMETHEUS: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")

READY: Final = "sglang_operator_endpoint_ready"


@dataclass(frozen=True)
class Page:
    """A page of metrics, by the label that tells endpoints apart there (docs/operations/metrics.md)."""

    label: str

    @property
    def chosen(self) -> str:
        """Matches what the user has chosen."""
        return f'namespace=~"$namespace",{self.label}=~"$endpoint"'

    @property
    def by(self) -> str:
        """The labels of one endpoint."""
        return f"namespace, {self.label}"

    @property
    def name(self) -> str:
        """What lines of one endpoint are called."""
        return f"{{{{namespace}}}}/{{{{{self.label}}}}}"


OURS: Final = Page("name")
ENGINE: Final = Page("endpoint")
POD: Final = Page("serve_sglang_io_endpoint")


@dataclass(frozen=True)
class Graph:
    """One panel: what each line is called, and its expression."""

    title: str
    unit: str
    """Of Grafana's list: https://grafana.com/docs/grafana/latest/panels-visualizations/configure-standard-options/."""
    lines: Mapping[str, str]
    description: str = ""


def _rate(series: str, labels: str, by: str) -> str:
    return f"sum by ({by}) (rate({series}{{{labels}}}[$__rate_interval]))"


def _quantiles(series: str) -> dict[str, str]:
    """Median and 99th percentile of a histogram of the engines, over the replicas of each endpoint."""
    rate = _rate(f"{series}_bucket", ENGINE.chosen, f"le, {ENGINE.by}")
    return {f"{ENGINE.name} p{name}": f"histogram_quantile({share}, {rate})" for name, share in ((50, 0.5), (99, 0.99))}


ROWS: Final[Mapping[str, tuple[Graph, ...]]] = {
    "Are they up": (
        Graph("Ready", "bool_yes_no", {OURS.name: f"max by ({OURS.by}) ({READY}{{{OURS.chosen}}})"}),
        Graph(
            "Replicas that answer",
            "none",
            {POD.name: f"sum by ({POD.by}) (ray_serve_deployment_replica_healthy{{{POD.chosen}}})"},
            "By Ray Serve's health check.",
        ),
        Graph(
            "Accelerators",
            "none",
            {OURS.name + " {{state}}": f"max by ({OURS.by}, state) (sglang_operator_accelerators{{{OURS.chosen}}})"},
            "Held by the serving revision, and by a rollout beside it.",
        ),
    ),
    "What clients get": (
        Graph(
            "Answers by class",
            "reqps",
            {POD.name + " {{code}}": _rate("haproxy_backend_http_responses_total", POD.chosen, f"{POD.by}, code")},
        ),
        Graph("Time to first token", "s", _quantiles("sglang:time_to_first_token_seconds")),
        Graph("Time per output token", "s", _quantiles("sglang:request_time_per_output_token_seconds")),
        Graph("Time to the whole answer", "s", _quantiles("sglang:e2e_request_latency_seconds")),
        Graph(
            "Requests on their way",
            "none",
            {POD.name: f"sum by ({POD.by}) (haproxy_backend_current_sessions{{{POD.chosen}}})"},
        ),
        Graph(
            "Sent again to another replica",
            "reqps",
            {POD.name: _rate("haproxy_backend_retry_warnings_total", POD.chosen, POD.by)},
            "A replica has died under them; clients have seen nothing.",
        ),
    ),
    "Engines": (
        Graph(
            "Tokens",
            "short",
            {
                f"{ENGINE.name} read": _rate("sglang:prompt_tokens_total", ENGINE.chosen, ENGINE.by),
                f"{ENGINE.name} generated": _rate("sglang:generation_tokens_total", ENGINE.chosen, ENGINE.by),
            },
            "Per second.",
        ),
        Graph(
            "Requests",
            "none",
            {
                f"{ENGINE.name} running": f"sum by ({ENGINE.by}) (sglang:num_running_reqs{{{ENGINE.chosen}}})",
                f"{ENGINE.name} waiting": f"sum by ({ENGINE.by}) (sglang:num_queue_reqs{{{ENGINE.chosen}}})",
            },
            "Waiting above zero for long: more replicas.",
        ),
        Graph(
            "Key-value cache in use",
            "percentunit",
            {ENGINE.name + " {{replica}}": f"max by ({ENGINE.by}, replica) (sglang:token_usage{{{ENGINE.chosen}}})"},
            "Near 1 requests wait.",
        ),
    ),
    "Operator": (
        Graph("Passes", "ops", {"{{result}}": _rate("sglang_operator_reconcile_total", "", "result")}),
        Graph(
            "Duration of passes",
            "s",
            {"p99": f"histogram_quantile(0.99, {_rate('sglang_operator_reconcile_seconds_bucket', '', 'le')})"},
        ),
        Graph(
            "Behind",
            "short",
            {
                "endpoints that wait": "max(sglang_operator_queue_depth)",
                "seconds of the oldest pass": "max(sglang_operator_longest_running_seconds)",
                "seconds of lag": "max(sglang_operator_event_loop_lag_seconds)",
            },
        ),
    ),
}


def dashboard() -> str:
    """As JSON."""
    made = (
        Dashboard("SGLang endpoints")
        .uid("sglang-endpoints")
        .tags(["sglang"])
        .refresh("30s")
        .time("now-1h", "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(DatasourceVariable("datasource").type("prometheus"))
        .with_variable(_choice("namespace", f"label_values({READY}, namespace)"))
        .with_variable(_choice("endpoint", f'label_values({READY}{{namespace=~"$namespace"}}, {OURS.label})'))
    )
    ids = itertools.count(1)
    for title, graphs in ROWS.items():
        made = made.with_row(Row(title).id(next(ids)))
        for graph in graphs:
            made = made.with_panel(_panel(graph).id(next(ids)))
    return JSONEncoder(sort_keys=True, indent=1).encode(made.build()) + "\n"


def expressions() -> Iterator[str]:
    """Of all panels."""
    for graphs in ROWS.values():
        for graph in graphs:
            yield from graph.lines.values()


def _choice(name: str, query: str) -> QueryVariable:
    wide = QueryVariable(name).query(query).datasource(PROMETHEUS).include_all(True).all_value(".*")
    return wide.multi(True).refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)


def _panel(graph: Graph) -> Panel:
    legend = VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM).show_legend(True)
    panel = Panel().title(graph.title).description(graph.description).unit(graph.unit).min(0).legend(legend)
    panel = panel.height(HEIGHT).span(24 // COLUMNS).datasource(PROMETHEUS)
    for name, (line, expression) in zip(ascii_uppercase, graph.lines.items(), strict=False):
        panel = panel.with_target(Dataquery().expr(expression).legend_format(line).ref_id(name))
    return panel
