"""Where a real scheduler puts a head. The nodes are objects only: nothing starts there."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml
from apiserver.operator_process import REAL, OperatorProcess
from localcluster import ControlPlane
from waiting import wait_until

from sglang_operator.cluster.metadata import condition_of, stamp
from sglang_operator.render.context import ACCELERATOR_NODE_LABELS

if TYPE_CHECKING:
    from localcluster.kubectl import Kubectl

EXAMPLE: Final = Path(__file__).parents[2] / "examples" / "nvidia.yaml"
SECONDS: Final = 60.0
ROOM: Final = {"cpu": "64", "memory": "256Gi", "ephemeral-storage": "500Gi", "pods": "110"}
WITH_GPU: Final = {"nvidia.com/gpu": "8"}
Object = dict[str, Any]


@pytest.fixture(scope="module")
def kubectl(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """A cluster with a scheduler and the operator. After the other one, which is the one that is built first."""
    directory = tmp_path_factory.mktemp("scheduling")
    options = {"SGLANG_OPERATOR_LEADER_ELECTION": "false", "SGLANG_OPERATOR_HTTP_PORT": "0"}
    with ControlPlane(directory, scheduler=True) as plane:
        process = OperatorProcess("scheduling", plane.kubeconfig, directory / "log", REAL, **options)
        plane.kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=60s")
        yield plane.kubectl
        process.kill()


def make_node(kubectl: Kubectl, name: str, label: str = "", **room: str) -> None:
    """As a kubelet that is ready would register."""
    metadata = {"name": name, "labels": {label: "NVIDIA-H200"} if label else {}}
    kubectl.apply([{"apiVersion": "v1", "kind": "Node", "metadata": metadata}])
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": stamp(time.time())}
    status = {"capacity": {**ROOM, **room}, "allocatable": {**ROOM, **room}, "conditions": [ready]}
    patch = json.dumps({"status": status})
    kubectl("patch", "node", name, "--subresource=status", "--type=merge", f"--patch={patch}")


def test_a_head_takes_a_node_without_accelerators_alone(kubectl: Kubectl) -> None:
    for number, label in enumerate(ACCELERATOR_NODE_LABELS):
        make_node(kubectl, f"node{number}", label, **WITH_GPU)
    manifest = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    kubectl.apply([{**manifest, "metadata": {"name": "e", "namespace": "default"}}])
    wait_until(lambda: node_of(kubectl, "worker"), SECONDS, lambda: said(kubectl, "worker"))
    wait_until(lambda: "node affinity" in said(kubectl, "head"), SECONDS, lambda: said(kubectl, "head"))
    make_node(kubectl, "plain")
    wait_until(lambda: node_of(kubectl, "head") == "plain", SECONDS, lambda: said(kubectl, "head"))


def node_of(kubectl: Kubectl, kind: str) -> str:
    """Of the head or the worker; "" before it has one."""
    return str(pod(kubectl, kind).get("spec", {}).get("nodeName", ""))


def said(kubectl: Kubectl, kind: str) -> str:
    """By the scheduler."""
    return str(condition_of(pod(kubectl, kind), "PodScheduled").get("message", ""))


def pod(kubectl: Kubectl, kind: str) -> Object:
    return next(iter(kubectl.objects("pods", f"-lray.io/node-type={kind}")), {})
