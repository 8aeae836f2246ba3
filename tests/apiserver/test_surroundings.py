"""What the operator stands on comes late, or goes and comes back: the same process goes on with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from apiserver.operator_process import REAL, OperatorProcess
from localcluster import ControlPlane, tools
from localcluster.controlplane import OUR_CRDS
from waiting import wait_until

SMOLLM2 = Path(__file__).parents[2] / "examples" / "smollm2.yaml"
RESYNC_SECONDS = 3600
SECONDS = 240.0
NAMESPACE = "default"


@pytest.fixture(scope="module")
def plane(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A cluster without KubeRay. After the other one, which is the one that is built first."""
    with ControlPlane(tmp_path_factory.mktemp("bare"), kuberay=False, crds=False) as plane:
        plane.kubectl("create", f"--filename={OUR_CRDS}")
        plane.wait_for_crds()
        yield plane


@pytest.fixture
def operator(plane: ControlPlane, tmp_path: Path) -> Iterator[OperatorProcess]:
    options = {"LEADER_ELECTION": "false", "RESYNC_SECONDS": str(RESYNC_SECONDS), "HTTP_PORT": "0"}
    environment = {f"SGLANG_OPERATOR_{name}": value for name, value in options.items()}
    process = OperatorProcess("operator", plane.kubeconfig, tmp_path / "operator.log", REAL, **environment)
    yield process
    process.kill()


def create(plane: ControlPlane, name: str, **spec: Any) -> None:
    manifest = yaml.safe_load(SMOLLM2.read_text(encoding="utf-8"))
    whole = {**manifest, "metadata": {"name": name, "namespace": NAMESPACE}, "spec": {**manifest["spec"], **spec}}
    plane.kubectl.apply([whole])


def status(plane: ControlPlane, name: str) -> dict[str, Any]:
    (endpoint,) = plane.kubectl.objects("sglangendpoints", name, f"-n{NAMESPACE}")
    return dict(endpoint.get("status", {}))


def progressing(plane: ControlPlane, name: str) -> dict[str, Any]:
    return condition(plane, name, "Progressing")


def condition(plane: ControlPlane, name: str, kind: str) -> dict[str, Any]:
    conditions = status(plane, name).get("conditions", [])
    return next((dict(one) for one in conditions if one["type"] == kind), {"reason": ""})


def warnings(operator: OperatorProcess, text: str) -> list[dict[str, Any]]:
    return [line for line in operator.lines() if line["level"] == "warning" and text in line["message"]]


def test_kuberay_that_comes_late_is_picked_up(plane: ControlPlane, operator: OperatorProcess) -> None:
    create(plane, "early")
    wait_until(lambda: progressing(plane, "early")["reason"] == "KubeRayAbsent", SECONDS, "the condition")
    assert "helm install kuberay-operator" in progressing(plane, "early")["message"]
    create(plane, "early-too")
    wait_until(lambda: progressing(plane, "early-too")["reason"] == "KubeRayAbsent", SECONDS, "the condition")
    assert len(warnings(operator, "helm install kuberay-operator")) == 1, "once, of two endpoints"
    plane.kubectl("create", "--validate=false", f"--filename={tools.crds('ray')}")

    def is_made() -> bool:
        return bool(plane.kubectl.objects("rayservices", f"-n{NAMESPACE}", "-lserve.sglang.io/endpoint=early"))

    plane.wait_for_crds()
    wait_until(is_made, SECONDS, "a RayService of the same process")
    wait_until(lambda: progressing(plane, "early")["reason"] == "StartingRevision", SECONDS, "the condition to go")


def test_a_gateway_api_that_comes_late_is_picked_up(plane: ControlPlane, operator: OperatorProcess) -> None:
    """After the test above: KubeRay's CRDs are there."""
    route = {"parentRefs": [{"name": "public"}], "hostnames": ["a.example.com"]}
    create(plane, "routed", api={"route": route, "allowAnonymous": True})
    wait_until(lambda: condition(plane, "routed", "Accepted")["reason"] == "GatewayApiAbsent", SECONDS, "the condition")
    assert "Gateway API" in condition(plane, "routed", "Accepted")["message"]
    assert [line["endpoint"] for line in warnings(operator, "Gateway API: install its CRDs")] == [f"{NAMESPACE}/routed"]
    assert warnings(operator, "helm install kuberay-operator") == []
    plane.kubectl("create", "--validate=false", f"--filename={tools.crds('gateway-api')}")
    plane.wait_for_crds()

    def is_made() -> bool:
        return bool(plane.kubectl.objects("httproutes", f"-n{NAMESPACE}", "-lserve.sglang.io/endpoint=routed"))

    wait_until(is_made, SECONDS, "an HTTPRoute of the same process")
    wait_until(lambda: condition(plane, "routed", "Accepted")["reason"] == "Valid", SECONDS, "the condition to go")


def test_an_edit_after_the_watches_were_dropped_is_seen(plane: ControlPlane, operator: OperatorProcess) -> None:
    create(plane, "watched")
    wait_until(lambda: status(plane, "watched").get("observedGeneration") == 1, SECONDS, "a first pass")
    plane.kill("kube-apiserver")
    plane.start("kube-apiserver")
    patch = '{"spec": {"replicas": 2}}'
    plane.kubectl("patch", "sglangendpoint", "watched", f"-n{NAMESPACE}", "--type=merge", f"--patch={patch}")
    wait_until(lambda: status(plane, "watched").get("observedGeneration") == 2, SECONDS, "a pass over the edit")
