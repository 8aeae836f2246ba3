"""What a registry says of an image, in the words of a real containerd: what is final, and what is waited for.

The registry is played: what it answers is the fault.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from cluster.actors import Operator, User, somebody, wait_until
from cluster.endpoints import engine_of, tiny_endpoint
from localcluster.cluster import LocalCluster

REGISTRY = "registry.test"  # no name server knows it
ANSWERS = {
    "absent": (404, "MANIFEST_UNKNOWN", "manifest unknown"),
    "nameless": (404, "NAME_UNKNOWN", "repository name not known to registry"),
    "private": (401, "UNAUTHORIZED", "authentication required"),
    "forbidden": (403, "DENIED", "requested access to the resource is denied"),
    "busy": (429, "TOOMANYREQUESTS", "You have reached your pull rate limit"),
    "broken": (500, "UNKNOWN", "internal error"),
    "away": (503, "UNAVAILABLE", "try again later"),
}
FINAL = ("absent", "nameless", "private", "forbidden")
LATER = ("busy", "broken", "away", "unknown-host")
PULL_SECONDS = 120
STILL_SECONDS = 30  # as long as several tries of the kubelet
pytestmark = [pytest.mark.timeout(900), pytest.mark.long]


class Registry(BaseHTTPRequestHandler):
    """Answers as the repository of the request is called."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        status, code, message = ANSWERS[self.path.split("/")[2]]
        body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - the library's name

    def log_message(self, *_: Any) -> None:
        """Nothing: pytest shows what went wrong."""


@contextmanager
def registry(cluster: LocalCluster) -> Iterator[None]:
    """Every node finds it under REGISTRY while the body runs."""
    server = ThreadingHTTPServer((cluster.host, 0), Registry)
    threading.Thread(target=server.serve_forever).start()
    url = f"http://{cluster.host}:{server.server_port}"
    places = [node.registries / REGISTRY for node in cluster.nodes]
    try:
        for place in places:
            place.mkdir(parents=True)
            (place / "hosts.toml").write_text(f'server = "{url}"\n[host."{url}"]\n')
        yield
    finally:
        for place in places:
            (place / "hosts.toml").unlink(missing_ok=True)
            place.rmdir()
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def user(cluster: LocalCluster, operator: Operator) -> Iterator[User]:
    """Somebody with an endpoint for each answer, whose heads and workers get their image from the registry."""
    del operator  # it runs
    with registry(cluster), somebody(cluster, "images") as made:
        for name in (*FINAL, *LATER):
            made.apply(endpoint(name))
        yield made


def endpoint(name: str) -> dict[str, Any]:
    made = tiny_endpoint()
    made["metadata"]["name"] = name
    host = "no-such-registry.test" if name == "unknown-host" else REGISTRY
    made["spec"] |= {"engine": engine_of({"image": f"{host}/{name}/sglang:1"}), "upgrade": {"drainSeconds": 5}}
    for pod in ("head", "resources"):
        made["spec"][pod] |= {"cpu": "10m", "memory": "128Mi"}  # no container will run
    made["spec"]["resources"]["sharedMemory"] = "64Mi"
    return made


def pulls(user: User) -> list[str]:
    """What the kubelet says of the endpoint's containers."""
    pods = user.read("pods", f"--selector=serve.sglang.io/endpoint={user.name}")["items"]
    states = (one["state"] for pod in pods for one in pod["status"].get("containerStatuses", ()))
    return [
        state["waiting"].get("message", "") for state in states if "Pull" in state.get("waiting", {}).get("reason", "")
    ]


@pytest.mark.parametrize("name", FINAL)
def test_what_the_registry_refuses_has_failed(user: User, name: str) -> None:
    one = replace(user, name=name)
    wait_until(
        lambda: "ImagePullFailed" in one.condition("Degraded").get("message", ""),
        PULL_SECONDS,
        lambda: json.dumps([pulls(one), one.status], indent=1),
    )
    assert f"{REGISTRY}/{name}/sglang:1" in one.condition("Degraded")["message"]


@pytest.mark.parametrize("name", LATER)
def test_a_registry_that_does_not_answer_is_waited_for(user: User, name: str) -> None:
    one = replace(user, name=name)
    print(*wait_until(lambda: pulls(one), PULL_SECONDS, "a pull that failed"), sep="\n")
    time.sleep(STILL_SECONDS)  # what shall not happen has no moment
    status = one.status
    assert one.condition("Degraded")["reason"] == "PodsBlocked", json.dumps(status, indent=1)
    assert all(revision["state"] != "Failed" for revision in status.get("revisions", ()))
