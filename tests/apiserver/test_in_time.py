"""What the kubelet or the scheduler says of a pod is in status within 15 seconds, by the process of the operator.

Which reason belongs to which failure, with real pods: tests/cluster/test_reasons.py. Here the kubelet is played, so
that the moment of the cause is known.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml
from apiserver.kubelet import NO_IMAGE
from apiserver.operator_process import REAL, OperatorProcess
from apiserver.test_real_process import SMOLLM2
from waiting import wait_until

from sglang_operator.cluster.metadata import stamp

if TYPE_CHECKING:
    from localcluster import ControlPlane
from localcluster.kubectl import until

SECONDS: Final = 15.0
START_SECONDS: Final = 120.0
WORKER: Final = "-lray.io/node-type=worker"
Object = dict[str, Any]


def unschedulable(text: str) -> Object:
    said = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": text}
    return {"phase": "Pending", "conditions": [said]}


def container(state: Object, last: Object | None = None, restarts: int = 0) -> Object:
    made = {"name": "ray-worker", "image": "i", "imageID": "", "ready": False, "restartCount": restarts, "state": state}
    return {"phase": "Pending", "containerStatuses": [{**made, "lastState": last or {}}]}


BACK_OFF: Final = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting failed container"}}
NO_SECRET: Final = {"reason": "CreateContainerConfigError", "message": 'secret "keys" not found'}
CASES: Final = {
    "no room": (unschedulable("0/3 nodes are available: 3 Insufficient amd.com/gpu."), "Insufficient amd.com/gpu"),
    "image": (container({"waiting": NO_IMAGE}), "ImagePullFailed"),
    "secret": (container({"waiting": NO_SECRET}), 'secret "keys" not found'),
    "memory": (container(BACK_OFF, {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}, 1), "OOMKilled"),
    "crashes": (container(BACK_OFF, {"terminated": {"exitCode": 1, "reason": "Error"}}, 3), "CrashLoop"),
}


@pytest.fixture(scope="module")
def operator(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    log = tmp_path_factory.mktemp("operator") / "log"
    options = {"SGLANG_OPERATOR_LEADER_ELECTION": "false", "SGLANG_OPERATOR_HTTP_PORT": "0"}
    process = OperatorProcess("in-time", control_plane.kubeconfig, log, REAL, **options)
    yield process
    process.kill()


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize("case", CASES)
def test_status_says_it_within_15_seconds(control_plane: ControlPlane, namespace: str, case: str) -> None:
    said, text = CASES[case]
    kubectl = control_plane.kubectl
    manifest = yaml.safe_load(SMOLLM2.read_text(encoding="utf-8"))
    kubectl.apply([{**manifest, "metadata": {"name": "e", "namespace": namespace}}])
    (worker,) = wait_until(
        lambda: kubectl.objects("pods", f"-n{namespace}", WORKER), START_SECONDS, "KubeRay's worker pod"
    )
    status = {
        "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": stamp(time.time())}],
        **said,
    }
    patch = ("--subresource=status", "--type=merge", f"--patch={json.dumps({'status': status})}")
    kubectl("patch", "pod", worker["metadata"]["name"], f"-n{namespace}", *patch)
    until(lambda: text in conditions(control_plane, namespace), SECONDS, f"{text!r} in a condition")


def conditions(plane: ControlPlane, namespace: str) -> str:
    """The messages of those that are not as they should be."""
    (endpoint,) = plane.kubectl.objects("sglangendpoints", "e", f"-n{namespace}")
    return "\n".join(one["message"] for one in endpoint.get("status", {}).get("conditions", ()))
