"""What the chart renders from sets of values, field by field where a wrong one opens or stops something."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import schemas
import yaml
from chart.conftest import ROOT, Chart
from monitoring import documented_monitor

from sglang_operator.api import parse_endpoint
from sglang_operator.api.defaults import parse_defaults
from sglang_operator.app.main import run
from sglang_operator.render import render_endpoint

pytestmark = pytest.mark.chart

Json = dict[str, Any]
CRD = ROOT / "crds" / "serve.sglang.io_sglangendpoints.yaml"
DIGEST = "sha256:" + hashlib.sha256(b"").hexdigest()

EVERYTHING: Json = {
    "nameOverride": "models",
    "image": {"registry": "registry.example.org:5000", "tag": "v9", "digest": DIGEST, "pullPolicy": "Always"},
    "images": {"amd": "r.example.org/rocm:1", "cpu": f"r.example.org:5000/cpu:1@{DIGEST}"},
    "imagePullSecrets": [{"name": "pull"}],
    "replicas": 3,
    "defaults": {"upgrade": {"drainSeconds": 60}, "scheduling": {"priorityClassName": "inference"}},
    "workers": 8,
    "resyncSeconds": 60,
    "log": {"format": "text", "level": "debug"},
    "serviceAccount": {"name": "operator", "annotations": {"a.example.org/b": "c"}},
    "metrics": {
        "service": {"port": 9090, "annotations": {"a": "b"}},
        "serviceMonitor": {"enabled": True, "interval": "1m", "labels": {"release": "prometheus"}},
        "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
        "dashboard": {"enabled": True},
        "podMonitor": {"enabled": True, "interval": "1m", "labels": {"release": "prometheus"}},
    },
    "podAnnotations": {"a": "1"},
    "podLabels": {"team": "serving"},
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"key": "infra", "operator": "Exists"}],
    "affinity": {"podAntiAffinity": {}},
    "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
    "priorityClassName": "system-cluster-critical",
    "podSecurityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None, "supplementalGroups": [1]},
    "securityContext": {"runAsUser": 7},
    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
}
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


def one(objects: list[Json], kind: str) -> Json:
    (found,) = (one for one in objects if one["kind"] == kind)
    return found


def pod(objects: list[Json]) -> Json:
    template: Json = one(objects, "Deployment")["spec"]["template"]
    return template


def container(objects: list[Json]) -> Json:
    (found,) = pod(objects)["spec"]["containers"]
    assert isinstance(found, dict)
    return found


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


def test_pods_are_restricted(chart: Chart) -> None:
    """The Pod Security Standard `restricted`, and a root file system that cannot be written."""
    objects = chart.render()
    assert pod(objects)["spec"]["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "fsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container(objects)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert one(objects, "ServiceAccount")["automountServiceAccountToken"] is False


def test_command_line(chart: Chart) -> None:
    found = container(chart.render())
    assert found["command"] == ["sglang-operator", "run"]
    assert found["args"] == [
        *("--defaults=/etc/sglang-operator/defaults.yaml", "--workers=4", "--resync-seconds=300", "--leader-election"),
        *("--lease-name=sglang-operator", "--read-nodes", "--http-port=8080", "--log-format=json", "--log-level=info"),
    ]
    assert [variable["name"] for variable in found["env"]] == ["POD_NAME", "POD_NAMESPACE"]


def test_command_line_of_other_values(chart: Chart) -> None:
    args = container(chart.render({**EVERYTHING, "watchNamespaces": ["a", "b"]}))["args"]
    expected = {
        *("--image=amd=r.example.org/rocm:1", f"--image=cpu=r.example.org:5000/cpu:1@{DIGEST}"),
        *("--namespaces=a,b", "--workers=8", "--resync-seconds=60", "--log-format=text", "--log-level=debug"),
        "--lease-name=sglang-operator-models",
    }
    assert expected <= set(args)


def test_the_operator_understands_it(chart: Chart, tmp_path: Path) -> None:
    """The very command line of the pod, with a file in the place of the mounted one."""
    defaults = tmp_path / "defaults.yaml"
    defaults.write_text("{}\n")
    values = {**EVERYTHING, "watchNamespaces": ["a", "b"], "kuberay": {"namespace": "ray"}}
    args = container(chart.render(values))["args"]
    here = [f"--defaults={defaults}" if arg.startswith("--defaults=") else arg for arg in args]
    options = run.make_context("run", here).params
    assert options == {
        "namespaces": "a,b",
        "defaults": defaults,
        "images": ("amd=r.example.org/rocm:1", f"cpu=r.example.org:5000/cpu:1@{DIGEST}"),
        "workers": 8,
        "resync_seconds": 60,
        "leader_election": True,
        "lease_name": "sglang-operator-models",
        "lease_namespace": "",
        "kuberay_namespace": "ray",
        "read_nodes": False,
        "http_port": 8080,
        "log_format": "text",
        "log_level": "debug",
    }


def test_defaults_that_the_chart_takes_are_read_by_the_operator(chart: Chart) -> None:
    (read,) = (made["data"] for made in chart.render(EVERYTHING) if "defaults.yaml" in made.get("data", {}))
    assert parse_defaults(read["defaults.yaml"]) == EVERYTHING["defaults"]


def test_probes_and_metrics_have_one_port(chart: Chart) -> None:
    objects = chart.render()
    assert container(objects)["ports"] == [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]
    assert container(objects)["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
    assert container(objects)["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    assert one(objects, "Service")["spec"]["ports"][0]["targetPort"] == "http"
    policy = one(objects, "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress"]
    assert policy["ingress"] == [{"ports": [{"port": "http", "protocol": "TCP"}]}]


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


def test_security_contexts_are_merged_and_a_null_takes_a_key_away(chart: Chart) -> None:
    """OpenShift chooses user and groups itself."""
    objects = chart.render(EVERYTHING)
    kept = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert pod(objects)["spec"]["securityContext"] == {**kept, "supplementalGroups": [1]}
    assert container(objects)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "runAsUser": 7,
    }
    assert container(objects)["env"][-1] == {"name": "HTTPS_PROXY", "value": "http://proxy:3128"}


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


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ({"registry": ""}, "sglang-operator/sglang-operator:{version}"),
        ({"registry": "r.example.org:5000"}, "r.example.org:5000/sglang-operator/sglang-operator:{version}"),
        ({"tag": "v9"}, "ghcr.io/sglang-operator/sglang-operator:v9"),
        ({"digest": DIGEST}, f"ghcr.io/sglang-operator/sglang-operator:{{version}}@{DIGEST}"),
        ({"registry": None}, "sglang-operator/sglang-operator:{version}"),
        ({"tag": None}, "ghcr.io/sglang-operator/sglang-operator:{version}"),
        ({"digest": None}, "ghcr.io/sglang-operator/sglang-operator:{version}"),
    ],
)
def test_image(chart: Chart, image: Json, expected: str) -> None:
    version = yaml.safe_load((ROOT / "charts/sglang-operator/Chart.yaml").read_text())["appVersion"]
    assert container(chart.render({"image": image}))["image"] == expected.format(version=version)


def test_an_image_without_a_repository_is_refused_by_its_name(chart: Chart) -> None:
    assert "image.repository: is required" in chart.refusal({"image": {"repository": None}})


@pytest.mark.parametrize("keep", [True, False])
def test_the_crd_is_the_committed_one(chart: Chart, keep: bool) -> None:
    rendered = one(chart.render({"crds": {"keep": keep}}), "CustomResourceDefinition")
    metadata = rendered.pop("metadata")
    committed = yaml.safe_load(CRD.read_text(encoding="utf-8"))
    assert metadata["name"] == committed.pop("metadata")["name"]
    assert rendered == committed
    assert metadata.get("annotations", {}) == ({"helm.sh/resource-policy": "keep"} if keep else {})


def test_defaults_arrive_as_they_were_written_and_start_new_pods(chart: Chart) -> None:
    defaults = {
        "api": {"limits": {"maxBodyBytes": 2_147_483_647}, "allowAnonymous": False},
        "engine": {
            "args": {"mem_fraction_static": 0.85, "context_length": 131072},
            "env": [{"name": "A", "value": "1"}],
        },
        "resources": {"cpu": 4, "memory": "1.5Gi"},
        "scheduling": {"nodeSelector": {"a.example.org/b": "true"}},
    }
    with_defaults, without = chart.render({"defaults": defaults}), chart.render()
    assert yaml.safe_load(one(with_defaults, "ConfigMap")["data"]["defaults.yaml"]) == defaults
    assert yaml.safe_load(one(without, "ConfigMap")["data"]["defaults.yaml"]) == {}
    checksums = {pod(objects)["metadata"]["annotations"]["checksum/defaults"] for objects in (with_defaults, without)}
    assert len(checksums) == 2


def test_the_configured_file_is_the_mounted_one(chart: Chart) -> None:
    objects = chart.render()
    volumes = {volume["name"]: volume for volume in pod(objects)["spec"]["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container(objects)["volumeMounts"]}
    (key,) = one(objects, "ConfigMap")["data"]
    assert f"--defaults={mounts['defaults']}/{key}" in container(objects)["args"]
    assert volumes["defaults"]["configMap"]["name"] == one(objects, "ConfigMap")["metadata"]["name"]
