"""The pod of the operator that the chart renders: command line, image, security contexts, defaults, probes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from chart.conftest import ROOT, Chart
from chart.rendered import DIGEST, EVERYTHING, Json, container, one, pod

from sglang_operator.app.main import run
from sglang_operator.render.defaults import read_defaults

pytestmark = pytest.mark.chart


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
    assert read_defaults(read["defaults.yaml"]) == EVERYTHING["defaults"]


def test_probes_and_metrics_have_one_port(chart: Chart) -> None:
    objects = chart.render()
    assert container(objects)["ports"] == [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]
    assert container(objects)["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
    assert container(objects)["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    assert one(objects, "Service")["spec"]["ports"][0]["targetPort"] == "http"
    policy = one(objects, "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress"]
    assert policy["ingress"] == [{"ports": [{"port": "http", "protocol": "TCP"}]}]


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
