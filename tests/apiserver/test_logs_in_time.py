"""What only the log of a replica says is in status within 15 seconds of its line, by the process of the operator.

The node is played: the API server asks this test for the log, as it would ask a kubelet.
Which engine writes which line: tests/engine/test_start_failures.py.
"""

from __future__ import annotations

import json
import ssl
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final

import pytest
from apiserver.test_in_time import SECONDS, START_SECONDS, WORKER, apply_endpoint, conditions, operator
from localcluster.kubectl import until
from waiting import wait_until

from sglang_operator.cluster.metadata import name_of, stamp
from sglang_serve.progress import log_line

if TYPE_CHECKING:
    from localcluster import ControlPlane

__all__ = ["operator"]
HOST: Final = "127.0.0.1"
QUIET_SECONDS: Final = 3.0  # less than from one look to the next; KubeRay's news come closer together
CASES: Final = {
    "no retry mends it": ("OutOfMemory", "RevisionFailing"),
    "a retry may mend it": ("DownloadFailed", "StartingRevision"),
}


class Node:
    """What a kubelet would say of the one log that it has."""

    def __init__(self) -> None:
        self.name = f"played-{uuid.uuid4().hex[:8]}"
        self.log = ""
        self.asked_at = 0.0

    @property
    def is_left_alone(self) -> bool:
        """It was asked, and nothing of late has made the operator look again."""
        return 0 < self.asked_at < time.monotonic() - QUIET_SECONDS


@pytest.fixture
def node(control_plane: ControlPlane) -> Iterator[Node]:
    made = Node()
    kubectl = control_plane.kubectl
    with kubelet(control_plane, made) as port:
        kubectl.apply([{"apiVersion": "v1", "kind": "Node", "metadata": {"name": made.name}}])
        reach = {"addresses": [{"type": "InternalIP", "address": HOST}]}
        status = {"status": {**reach, "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}}
        kubectl("patch", "node", made.name, "--subresource=status", "--type=merge", f"--patch={json.dumps(status)}")
        yield made
        kubectl("delete", "node", made.name)


@contextmanager
def kubelet(plane: ControlPlane, node: Node) -> Iterator[int]:
    """Its port. The certificate is one that the API server trusts at this address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            node.asked_at = time.monotonic()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(node.log.encode())

        def log_message(self, *_: object) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*plane.setting.credentials.certificate("apiserver"))
    with ThreadingHTTPServer((HOST, 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize("case", CASES)
def test_status_says_what_the_log_does_within_15_seconds(
    control_plane: ControlPlane, namespace: str, node: Node, case: str
) -> None:
    reason, says = CASES[case]
    node.log = log_line("progress", step="load", message="loading weights") + "\n"
    apply_endpoint(control_plane, namespace)
    start_worker(control_plane, namespace, node)
    wait_until(lambda: node.is_left_alone, START_SECONDS, "the operator to read the log")
    node.log += log_line("progress", step="failed", reason=reason, message="too much", remedy="take less") + "\n"
    text = f"{reason}: too much; take less"
    until(lambda: text in conditions(control_plane, namespace), SECONDS, f"{text!r} in a condition")
    found = control_plane.kubectl.objects("sglangendpoints", "e", f"-n{namespace}")[0]["status"]["conditions"]
    assert says in {one["reason"] for one in found if text in one["message"]}


def start_worker(plane: ControlPlane, namespace: str, node: Node) -> None:
    """Its container runs on the node; no replica answers from it."""
    where = f"-n{namespace}"
    (pod,) = wait_until(lambda: plane.kubectl.objects("pods", where, WORKER), START_SECONDS, "KubeRay's worker pod")
    body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name_of(pod)}}
    body["target"] = {"apiVersion": "v1", "kind": "Node", "name": node.name}
    path = f"/api/v1/namespaces/{namespace}/pods/{name_of(pod)}/binding"
    plane.kubectl("create", f"--raw={path}", "--filename=-", stdin=json.dumps(body))
    status = json.dumps({"status": running()})
    plane.kubectl("patch", "pod", name_of(pod), where, "--subresource=status", "--type=merge", f"--patch={status}")


def running() -> dict[str, Any]:
    now = stamp(time.time())
    container = {"name": "ray-worker", "image": "i", "imageID": "", "ready": False, "restartCount": 0}
    conditions = [
        {"type": name, "status": value, "lastTransitionTime": now}
        for name, value in {"PodScheduled": "True", "Initialized": "True", "Ready": "False"}.items()
    ]
    containers = [{**container, "state": {"running": {"startedAt": now}}}]
    return {"phase": "Running", "conditions": conditions, "containerStatuses": containers}
