"""`sglang-operator run` as the chart starts it, over a real API server: a restart, and a leader that stood still."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from apiserver.operator_process import REAL, OperatorProcess, until
from waiting import wait_until

if TYPE_CHECKING:
    from localcluster import ControlPlane

SMOLLM2 = Path(__file__).parents[2] / "examples" / "smollm2.yaml"
ENDPOINTS = 40  # each gets a head and a worker from KubeRay, which takes longer than the operator
QUIET_SECONDS = 5.0  # longer than KubeRay and the garbage collector take from one step to the next
STOPPED_SECONDS = 30.0
SECONDS = 240.0
Object = dict[str, Any]
Start = Callable[..., OperatorProcess]


@pytest.fixture
def start(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[Start]:
    """Starts operators of the namespace, each with a service account of its own name: the audit log tells who wrote."""
    started: list[OperatorProcess] = []

    def start(identity: str, run: int = 1) -> OperatorProcess:
        kubeconfig = kubeconfig_of(control_plane, namespace, identity)
        where = {"SGLANG_OPERATOR_NAMESPACES": namespace, "SGLANG_OPERATOR_LEASE_NAMESPACE": namespace}
        log = tmp_path / f"{identity}{run}.log"
        started.append(OperatorProcess(identity, kubeconfig, log, REAL, **where, SGLANG_OPERATOR_HTTP_PORT="0"))
        return started[-1]

    yield start
    for process in started:
        process.kill()


def kubeconfig_of(plane: ControlPlane, namespace: str, account: str) -> Path:
    if not plane.kubectl.objects("serviceaccount", account, f"-n{namespace}"):
        plane.kubectl("create", "serviceaccount", account, f"-n{namespace}")
        may_all = ("--clusterrole=cluster-admin", f"--serviceaccount={namespace}:{account}")
        plane.kubectl("create", "rolebinding", account, f"-n{namespace}", *may_all)
    return plane.kubeconfig_of(namespace, account)


def endpoints(namespace: str, names: list[str]) -> list[Object]:
    manifest = yaml.safe_load(SMOLLM2.read_text(encoding="utf-8"))
    return [{**manifest, "metadata": {"name": name, "namespace": namespace}} for name in names]


def writes(plane: ControlPlane, namespace: str, account: str) -> list[Object]:
    """What the API server let it write, besides its Lease."""
    return [
        event
        for event in plane.requests(f"system:serviceaccount:{namespace}:{account}", writes=True)
        if event["objectRef"]["resource"] != "leases" and event["responseStatus"]["code"] < 300
    ]


def at(event: Object) -> float:
    return datetime.fromisoformat(event["requestReceivedTimestamp"]).timestamp()


def passes(process: OperatorProcess) -> float:
    lines = process.get("/metrics").splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("sglang_operator_reconcile_total{"))


def test_a_restart_writes_nothing(control_plane: ControlPlane, namespace: str, start: Start) -> None:
    names = [f"e{number}" for number in range(ENDPOINTS)]
    control_plane.kubectl.apply(endpoints(namespace, names))
    first = start("operator")

    def is_made() -> bool:
        return len(control_plane.kubectl.objects("pods", f"-n{namespace}")) == 2 * ENDPOINTS

    def is_quiet() -> bool:
        return at(writes(control_plane, namespace, "operator")[-1]) < time.time() - QUIET_SECONDS

    wait_until(is_made, SECONDS, "KubeRay to make all pods")
    wait_until(is_quiet, SECONDS, "the operator to have said all")
    first.send(signal.SIGTERM)
    assert first.wait()[0] == 0
    before = len(writes(control_plane, namespace, "operator"))
    second = start("operator", run=2)
    until(lambda: passes(second) >= ENDPOINTS, SECONDS)
    until(lambda: "queue_depth 0.0" in second.get("/metrics"), SECONDS)
    assert [
        (event["verb"], event["requestURI"]) for event in writes(control_plane, namespace, "operator")[before:]
    ] == []


def test_a_leader_that_stood_still_writes_nothing_when_it_goes_on(
    control_plane: ControlPlane, namespace: str, start: Start
) -> None:
    leader = start("a")
    leader.wait_for("leading")
    standby = start("b")
    standby.wait_for("is held by a")
    control_plane.kubectl.apply(endpoints(namespace, [f"e{number}" for number in range(10)]))
    until(lambda: writes(control_plane, namespace, "a"), SECONDS)  # it is in the middle of its work
    leader.send(signal.SIGSTOP)
    stopped = time.monotonic()
    standby.wait_for("leading")
    control_plane.kubectl.apply(endpoints(namespace, [f"late{number}" for number in range(5)]))
    until(lambda: writes(control_plane, namespace, "b"), SECONDS)
    until(lambda: time.monotonic() - stopped > STOPPED_SECONDS, SECONDS)
    goes_on = datetime.now(UTC).timestamp()
    leader.send(signal.SIGCONT)
    assert leader.wait()[0] == 1
    assert leader.says("is lost")
    assert [event["requestURI"] for event in writes(control_plane, namespace, "a") if at(event) > goes_on] == []
