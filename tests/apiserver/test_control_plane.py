"""What this project writes down is what a real API server and a real KubeRay take."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from localcluster import ControlPlane
from localcluster.kubectl import Refused
from waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
SMOLLM2 = ROOT / "examples" / "smollm2.yaml"
SECONDS = 60


def rendered(namespace: str) -> list[dict[str, Any]]:
    """The objects of the smallest example, as the command line prints them."""
    command = [sys.executable, "-m", "sglang_operator", "render", "--namespace", namespace, "-f", str(SMOLLM2)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return list(yaml.safe_load_all(text))


def test_crd_is_established_and_explains_itself(control_plane: ControlPlane) -> None:
    said = control_plane.kubectl("explain", "sglangendpoint.spec")
    assert "accelerator" in said
    assert "-required-" in said


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_accepted(control_plane: ControlPlane, namespace: str, example: Path) -> None:
    control_plane.kubectl("create", "--dry-run=server", "--validate=strict", f"-n{namespace}", "-f", str(example))


def test_rule_of_the_crd_refuses_with_its_message(control_plane: ControlPlane, namespace: str) -> None:
    endpoint = yaml.safe_load(SMOLLM2.read_text(encoding="utf-8"))
    endpoint["spec"]["model"]["uri"] = "hf://no-organisation"
    with pytest.raises(Refused, match=r"must be hf://<org>/<name>"):
        control_plane.kubectl.apply([endpoint], f"--namespace={namespace}")


def test_kuberay_makes_a_ray_cluster_and_the_owner_takes_all_with_it(
    control_plane: ControlPlane, namespace: str
) -> None:
    kubectl = control_plane.kubectl
    kubectl("create", f"-n{namespace}", "-f", str(SMOLLM2))
    (endpoint,) = kubectl.objects("sglangendpoint", "smollm2", f"-n{namespace}")
    owner = {
        "apiVersion": endpoint["apiVersion"],
        "kind": endpoint["kind"],
        "name": endpoint["metadata"]["name"],
        "uid": endpoint["metadata"]["uid"],
        "controller": True,
    }
    objects = rendered(namespace)
    for found in objects:
        found["metadata"] |= {"namespace": namespace, "ownerReferences": [owner]}
    kubectl.apply(objects)

    kinds = "rayservice,raycluster,service,pod"
    wait_until(lambda: kubectl.objects("raycluster", f"-n{namespace}"), SECONDS, "KubeRay to make a RayCluster")
    wait_until(lambda: len(kubectl.objects("pod", f"-n{namespace}")) >= 2, SECONDS, "KubeRay to make head and worker")
    kubectl("delete", "sglangendpoint", "smollm2", f"-n{namespace}")
    wait_until(lambda: not kubectl.objects(kinds, f"-n{namespace}"), SECONDS, f"{kinds} to be collected")


def test_audit_log_tells_who_wrote(control_plane: ControlPlane, namespace: str) -> None:
    kubeconfig = control_plane.kubeconfig_of(namespace, "default")
    with pytest.raises(Refused, match="forbidden"):
        control_plane.kubectl(f"--kubeconfig={kubeconfig}", "create", "configmap", "none", f"-n{namespace}")
    writes = list(control_plane.requests(user=f"system:serviceaccount:{namespace}:default", writes=True))
    assert [(event["verb"], event["responseStatus"]["code"]) for event in writes] == [("create", 403)]


def test_a_line_of_the_audit_log_that_is_being_written_is_not_read(
    control_plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = tmp_path / "audit.log"
    half.write_text('{"verb": "get", "user": {}}\n{"verb": "cre')
    monkeypatch.setattr(ControlPlane, "audit_log", half)
    monkeypatch.setattr(ControlPlane, "_catch_up", lambda _self: None)
    assert [event["verb"] for event in control_plane.requests()] == ["get"]


def test_components_come_back(tmp_path: Path) -> None:
    """In a plane of its own, next to the other tests' one: what other tests may do to components by name."""
    with ControlPlane(tmp_path, kuberay=False, crds=False) as plane:
        plane.kubectl("create", "configmap", "kept", "-ndefault")
        plane.kill("kube-apiserver")
        with pytest.raises(Refused, match="refused"):
            plane.kubectl("get", "configmap", "kept", "-ndefault")
        plane.start("kube-apiserver")
        plane.kill("etcd")
        plane.start("etcd")
        assert plane.kubectl.objects("configmap", "kept", "-ndefault")
        pids = [plane.process(name).pid for name in ("etcd", "kube-apiserver", "kube-controller-manager")]
    assert all(pids)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
