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

from sglang_operator.cluster.metadata import stamp, unix

if TYPE_CHECKING:
    from localcluster import ControlPlane
from localcluster.kubectl import until

SECONDS: Final = 15.0
START_SECONDS: Final = 120.0
WORKER: Final = "-lray.io/node-type=worker"
REFUSED: Final = "--field-selector=involvedObject.kind=RayCluster,type=Warning"
Object = dict[str, Any]
QUOTA: Final[Object] = {"apiVersion": "v1", "kind": "ResourceQuota", "spec": {"hard": {"count/pods": 0}}}


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
    "volume": (unschedulable("0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims."), "unbound"),
    "image": (container({"waiting": NO_IMAGE}), "ImagePullFailed"),
    "secret": (container({"waiting": NO_SECRET}), 'secret "keys" not found'),
    "memory": (container(BACK_OFF, {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}, 1), "OOMKilled"),
    # As Kubernetes 1.36 shows it until something else makes the kubelet look at the pod.
    "crashes": (container({"terminated": {"exitCode": 1, "reason": "Error"}}, restarts=3), "CrashLoop"),
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
    apply_endpoint(control_plane, namespace)
    (worker,) = wait_until(
        lambda: kubectl.objects("pods", f"-n{namespace}", WORKER), START_SECONDS, "KubeRay's worker pod"
    )
    scheduled = {"type": "PodScheduled", "status": "True"}
    began = {"lastTransitionTime": stamp(time.time())}
    status = {**said, "conditions": [{**one, **began} for one in said.get("conditions", [scheduled])]}
    patch = ("--subresource=status", "--type=merge", f"--patch={json.dumps({'status': status})}")
    kubectl("patch", "pod", worker["metadata"]["name"], f"-n{namespace}", *patch)
    until(lambda: text in conditions(control_plane, namespace), SECONDS, f"{text!r} in a condition")


@pytest.mark.usefixtures("operator")
def test_a_quota_is_said_within_15_seconds_of_kuberays_event(control_plane: ControlPlane, namespace: str) -> None:
    kubectl = control_plane.kubectl
    kubectl.apply([{**QUOTA, "metadata": {"name": "none", "namespace": namespace}}])
    wait_until(lambda: kubectl.objects("quota", f"-n{namespace}")[0].get("status"), START_SECONDS, "the quota")
    apply_endpoint(control_plane, namespace)
    events = wait_until(lambda: kubectl.objects("events", f"-n{namespace}", REFUSED), START_SECONDS, "KubeRay's event")
    began = min(unix(one.get("firstTimestamp") or one.get("eventTime")) for one in events)
    left = began + SECONDS - time.time()
    until(lambda: "exceeded quota" in conditions(control_plane, namespace), left, "the quota in a condition")


def apply_endpoint(plane: ControlPlane, namespace: str) -> None:
    manifest = yaml.safe_load(SMOLLM2.read_text(encoding="utf-8"))
    plane.kubectl.apply([{**manifest, "metadata": {"name": "e", "namespace": namespace}}])


def conditions(plane: ControlPlane, namespace: str) -> str:
    """The messages of those that are not as they should be."""
    (endpoint,) = plane.kubectl.objects("sglangendpoints", "e", f"-n{namespace}")
    return "\n".join(one["message"] for one in endpoint.get("status", {}).get("conditions", ()))
