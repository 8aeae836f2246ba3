"""A real Prometheus reads the real operator, with the chart's alerts and the queries of its dashboard."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import dashboard
import pytest
from apiserver.operator_process import REAL, OperatorProcess
from apiserver.test_real_process import endpoints, kubeconfig_of
from monitoring import SECONDS, Prometheus, operator_job, prometheus
from waiting import wait_until

from sglang_serve.local.ports import free_port

if TYPE_CHECKING:
    from localcluster import ControlPlane

ENDPOINT = "e0"


@pytest.fixture
def port(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[int]:
    """That of the real operator's metrics, which has an endpoint that no pod ever answers for."""
    port, log = free_port(), tmp_path / "operator.log"
    where = {"SGLANG_OPERATOR_NAMESPACES": namespace, "SGLANG_OPERATOR_LEASE_NAMESPACE": namespace}
    kubeconfig = kubeconfig_of(control_plane, namespace, "operator")
    process = OperatorProcess("operator", kubeconfig, log, REAL, **where, SGLANG_OPERATOR_HTTP_PORT=str(port))
    try:
        process.wait_for("leading")
        control_plane.kubectl.apply(endpoints(namespace, [ENDPOINT]))
        yield port
    finally:
        process.kill()


def test_it_reads_evaluates_and_shows(port: int, namespace: str, tmp_path: Path) -> None:
    with prometheus(tmp_path, [operator_job(port, f"{namespace}-operator")]) as seen:
        pending = {(f"SGLangEndpoint{what}", "pending", namespace, ENDPOINT) for what in ("NotReady", "Short")}
        wait_until(lambda: alerts(seen) == pending, SECONDS, lambda: str(alerts(seen)))
        (group,) = seen.read("/rules")["groups"]
        assert {rule["health"] for rule in group["rules"]} == {"ok"}, group
        for expression in dashboard.expressions():
            seen.ask(expression)  # raises for what it cannot evaluate
        for graph in dashboard.ROWS["Operator"]:
            for expression in graph.lines.values():
                wait_until(partial(seen.ask, expression), SECONDS, expression)
        (ready,) = seen.ask(dashboard.ROWS["Are they up"][0].lines[dashboard.OURS.name])
        assert (ready["metric"], ready["value"][1]) == ({"namespace": namespace, "name": ENDPOINT}, "0")


def alerts(seen: Prometheus) -> set[tuple[str, ...]]:
    """Name, state, and the endpoint that each is about."""
    found = [(one["state"], one["labels"]) for one in seen.read("/alerts")["alerts"]]
    return {(of["alertname"], state, of.get("namespace", ""), of.get("name", "")) for state, of in found}
