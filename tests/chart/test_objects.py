"""What the chart renders from sets of values, field by field where a wrong one opens or stops something."""

from __future__ import annotations

import pytest
import schemas
import yaml
from chart.conftest import ROOT, Chart
from chart.rendered import EVERYTHING, Json, one, pod
from monitoring import documented_monitor

from sglang_operator.api import parse_endpoint
from sglang_operator.render import render_endpoint

pytestmark = pytest.mark.chart

CRD = ROOT / "crds" / "serve.sglang.io_sglangendpoints.yaml"
CASES: dict[str, Json] = {
    "default": {},
    "everything": EVERYTHING,
    "namespaces": {"watchNamespaces": ["a", "b"]},
    "one-replica": {"replicas": 1},
    "least": {
        "replicas": 1,
        "crds": {"install": False},
        "rbac": {"create": False, "aggregate": False},
        "serviceAccount": {"create": False},
        "networkPolicy": {"enabled": False},
        "metrics": {"service": {"enabled": False}},
    },
}
WITHOUT_SCHEMA = {"ServiceMonitor", "PodMonitor", "PrometheusRule"}  # of the Prometheus operator


def kinds(objects: list[Json]) -> set[str]:
    return {one["kind"] for one in objects}


@pytest.mark.parametrize("case", CASES)
def test_lints(chart: Chart, case: str) -> None:
    assert "0 chart(s) failed" in chart.lint(CASES[case])


@pytest.mark.parametrize("case", CASES)
def test_an_api_server_would_take_every_object(chart: Chart, case: str) -> None:
    for rendered in chart.render(CASES[case]):
        if rendered["kind"] not in WITHOUT_SCHEMA:
            assert schemas.errors(rendered) == [], rendered["kind"]


@pytest.mark.parametrize("case", CASES)
def test_no_two_objects_have_one_name_and_all_have_the_labels(chart: Chart, case: str) -> None:
    objects = chart.render(CASES[case])
    names = [(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in objects]
    assert len(set(names)) == len(names)
    for rendered in objects:
        assert rendered["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"
        assert rendered["metadata"]["labels"]["app.kubernetes.io/instance"] == "sglang-operator"


def test_what_is_there_by_default_and_at_least(chart: Chart) -> None:
    least = {"Deployment", "ConfigMap"}
    assert kinds(chart.render(CASES["least"])) == least
    assert kinds(chart.render()) == least | {
        *("CustomResourceDefinition", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"),
        *("PodDisruptionBudget", "NetworkPolicy", "Service"),
    }
    assert {"ServiceMonitor", "PrometheusRule"} <= kinds(chart.render(EVERYTHING))


def test_a_budget_only_where_it_leaves_a_pod_to_take(chart: Chart) -> None:
    assert "PodDisruptionBudget" not in kinds(chart.render({"replicas": 1}))
    assert one(chart.render({"replicas": 2}), "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_series_keep_the_labels_that_the_operator_gave_them(chart: Chart) -> None:
    """Prometheus would rename `namespace`, the endpoint's, to `exported_namespace`."""
    (endpoint,) = one(chart.render(EVERYTHING), "ServiceMonitor")["spec"]["endpoints"]
    assert endpoint == {"port": "http", "path": "/metrics", "honorLabels": True, "interval": "1m"}


def test_the_pod_monitor_is_the_one_of_the_page(chart: Chart) -> None:
    spec = documented_monitor()["spec"]
    made = one(chart.render(EVERYTHING), "PodMonitor")
    assert made["metadata"]["labels"]["release"] == "prometheus"
    assert [one.pop("interval") for one in made["spec"]["podMetricsEndpoints"]] == ["1m"] * 3
    assert made["spec"] == spec
    some = chart.render({**EVERYTHING, "watchNamespaces": ["a", "b"]})
    assert one(some, "PodMonitor")["spec"]["namespaceSelector"] == {"matchNames": ["a", "b"]}


def test_monitors_take_relabelings(chart: Chart) -> None:
    drop = [{"sourceLabels": ["__name__"], "regex": "ray_gcs_.*", "action": "drop"}]
    given = {"enabled": True, "metricRelabelings": drop, "relabelings": [{"action": "labelmap", "regex": "team_(.+)"}]}
    objects = chart.render({"metrics": {"podMonitor": given, "serviceMonitor": given}})
    of_pods = one(objects, "PodMonitor")["spec"]["podMetricsEndpoints"]
    for endpoint in (*of_pods, *one(objects, "ServiceMonitor")["spec"]["endpoints"]):
        assert (endpoint["metricRelabelings"], endpoint["relabelings"]) == (drop, given["relabelings"])


def test_everything_selects_the_operator_pods(chart: Chart) -> None:
    for values in ({}, EVERYTHING):
        objects = chart.render(values)
        labels = pod(objects)["metadata"]["labels"].items()
        selectors = [one(objects, "Service")["spec"]["selector"]]
        selectors += [one(objects, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"]]
        for kind in ("Deployment", "PodDisruptionBudget"):
            selectors.append(one(objects, kind)["spec"]["selector"]["matchLabels"])
        for selector in selectors:
            assert selector
            assert selector.items() <= labels


def test_the_policies_of_endpoints_let_the_operator_in(chart: Chart) -> None:
    """By labels that no value changes: `nameOverride` has the name."""
    closed = {"model": {"uri": "hf://a/b"}, "api": {"allowFrom": [{"podSelector": {"matchLabels": {"a": "b"}}}]}}
    kind = {"apiVersion": "serve.sglang.io/v1alpha1", "kind": "SGLangEndpoint", "metadata": {"name": "closed"}}
    (policy,) = (
        made for made in render_endpoint(parse_endpoint({**kind, "spec": closed})) if made["kind"] == "NetworkPolicy"
    )
    labels = policy["spec"]["ingress"][1]["from"][0]["podSelector"]["matchLabels"]
    for values in ({}, EVERYTHING):
        assert labels.items() <= pod(chart.render(values))["metadata"]["labels"].items()


def test_two_releases_share_no_object_of_the_cluster(chart: Chart) -> None:
    values = {"crds": {"install": False}}
    first, second = (
        {one["metadata"]["name"] for one in chart.render(values, release=release) if one["kind"].startswith("Cluster")}
        for release in ("first", "second")
    )
    assert first
    assert not first & second


@pytest.mark.parametrize("keep", [True, False])
def test_the_crd_is_the_committed_one(chart: Chart, keep: bool) -> None:
    rendered = one(chart.render({"crds": {"keep": keep}}), "CustomResourceDefinition")
    metadata = rendered.pop("metadata")
    committed = yaml.safe_load(CRD.read_text(encoding="utf-8"))
    assert metadata["name"] == committed.pop("metadata")["name"]
    assert rendered == committed
    assert metadata.get("annotations", {}) == ({"helm.sh/resource-policy": "keep"} if keep else {})
