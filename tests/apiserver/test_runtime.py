"""The operator process on a real API server: from event to pass, takeover, and the end."""

from __future__ import annotations

import base64
import signal
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml
from apiserver.counting_operator import counter_of
from apiserver.operator_process import OperatorProcess, operators, until

from sglang_operator.cluster import paths

if TYPE_CHECKING:
    from localcluster import ControlPlane

Start = Callable[..., OperatorProcess]
Object = dict[str, Any]
ENDPOINT = "qwen3"
MANIFEST = {
    "apiVersion": "serve.sglang.io/v1alpha1",
    "kind": "SGLangEndpoint",
    "spec": {"model": {"uri": "hf://Qwen/Qwen3-8B"}, "accelerator": {"vendor": "nvidia", "count": 1}},
}
OFTEN = {"AGAIN": "0.05"}


class Namespace:
    """The namespace of one test, as the API server has it."""

    def __init__(self, http: httpx.Client, name: str) -> None:
        self._client, self.name = http, name

    def create_endpoint(self, name: str = ENDPOINT) -> None:
        self._post(paths.ENDPOINT.of(self.name), {**MANIFEST, "metadata": {"name": name}})

    def endpoint(self, name: str = ENDPOINT) -> Object:
        return self._get(paths.ENDPOINT.of(self.name, name))

    def create_service(self, name: str, labels: dict[str, str]) -> None:
        body = {"metadata": {"name": name, "labels": labels}, "spec": {"ports": [{"port": 80}]}}
        self._post(paths.SERVICE.of(self.name), body)

    def passes(self, identity: str, name: str = ENDPOINT) -> int:
        """Of this process over that endpoint."""
        counters = self._get(f"/api/v1/namespaces/{self.name}/configmaps")["items"]
        found = [one for one in counters if one["metadata"]["name"] == counter_of(name, identity)]
        return int(found[0]["data"]["passes"]) if found else 0

    def holders(self) -> list[str]:
        """Of the Leases in it."""
        return [one["spec"]["holderIdentity"] for one in self._get(paths.LEASE.of(self.name))["items"]]

    def _get(self, path: str) -> Object:
        answer: Object = self._client.get(path).raise_for_status().json()
        return answer

    def _post(self, path: str, body: Object) -> None:
        self._client.post(path, json=body).raise_for_status()


def _client(kubeconfig: Path) -> httpx.Client:
    read = yaml.safe_load(kubeconfig.read_text())
    cluster, user = read["clusters"][0]["cluster"], read["users"][0]["user"]
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    return httpx.Client(
        base_url=cluster["server"],
        headers={"Authorization": f"Bearer {user['token']}"},
        verify=ssl.create_default_context(cadata=authority),
    )


@pytest.fixture
def place(control_plane: ControlPlane, namespace: str) -> Iterator[Namespace]:
    with _client(control_plane.kubeconfig) as http:
        yield Namespace(http, namespace)


@pytest.fixture
def start(control_plane: ControlPlane, place: Namespace, tmp_path: Path) -> Iterator[Start]:
    with operators(control_plane.kubeconfig, tmp_path, place.name) as start:
        yield start


def test_endpoints_and_what_belongs_to_them_lead_to_passes(place: Namespace, start: Start) -> None:
    place.create_endpoint("before")
    start("a")
    until(lambda: place.passes("a", "before") == 1)
    place.create_endpoint()
    until(lambda: place.passes("a") == 1)
    place.create_service("foreign", {"app": "x"})
    place.create_service("ours", {"serve.sglang.io/endpoint": ENDPOINT})
    until(lambda: place.passes("a") == 2)
    assert place.passes("a", "before") == 1, "it was not concerned"


def test_in_the_whole_cluster_too(place: Namespace, start: Start) -> None:
    place.create_endpoint()
    start("a", SERVES="")
    until(lambda: place.passes("a") == 1)
    place.create_service("ours", {"serve.sglang.io/endpoint": ENDPOINT})
    until(lambda: place.passes("a") == 2)


def test_nothing_is_left_on_an_endpoint(place: Namespace, start: Start) -> None:
    place.create_endpoint()
    before = place.endpoint()
    start("a")
    until(lambda: place.passes("a") == 1)
    assert place.endpoint() == before
    assert not {"finalizers", "annotations"} & set(before["metadata"])


def test_a_resync_finds_what_no_event_tells(place: Namespace, start: Start) -> None:
    place.create_endpoint()
    start("a", RESYNC="0.5")
    until(lambda: place.passes("a") >= 3)


def test_one_leads_and_both_are_ready(place: Namespace, start: Start) -> None:
    place.create_endpoint()
    leader, standby = _leader_and_standby(start)
    until(lambda: place.passes("a") == 1)
    assert (leader.get("/readyz"), standby.get("/readyz"), standby.get("/healthz")) == ("ok\n",) * 3
    assert "sglang_operator_leader 1.0" in leader.get("/metrics")
    assert "sglang_operator_leader 0.0" in standby.get("/metrics")
    labels = f'{{name="{ENDPOINT}",namespace="{place.name}"}}'
    assert f"sglang_operator_endpoint_ready{labels} 1.0" in leader.get("/metrics")
    assert place.passes("b") == 0


def test_told_to_stop_it_ends_its_passes_and_the_next_one_leads_at_once(place: Namespace, start: Start) -> None:
    leader, standby = _leader_and_standby(start, SLOW="1")
    place.create_endpoint()
    until(lambda: "longest_running_seconds 0.0" not in leader.get("/metrics"))
    assert place.passes("a") == 0
    leader.send(signal.SIGTERM)
    status, seconds = leader.wait()
    assert (status, seconds < 5) == (0, True), seconds
    assert place.passes("a") == 1, "the pass that ran was cut off"
    assert leader.says("released lease") > leader.says("cancelled")
    assert standby.wait_for("leading") < 3
    assert place.holders() == ["b"]
    until(lambda: place.passes("b") == 1)


def test_who_waits_for_the_lease_stops_too(start: Start) -> None:
    _, standby = _leader_and_standby(start)
    standby.send(signal.SIGTERM)
    status, seconds = standby.wait()
    assert (status, seconds < 5) == (0, True), seconds


def test_killed_the_next_one_leads_within_20_seconds(place: Namespace, start: Start) -> None:
    place.create_endpoint()
    leader, standby = _leader_and_standby(start, **OFTEN)
    until(lambda: place.passes("a"))
    leader.kill()
    assert standby.wait_for("leading") < 20
    until(lambda: place.passes("b"))


def test_a_leader_that_stood_still_writes_nothing_when_it_goes_on(place: Namespace, start: Start) -> None:
    place.create_endpoint()
    leader, standby = _leader_and_standby(start, **OFTEN, SLOW="0.3")
    until(lambda: place.passes("a") > 3)
    leader.send(signal.SIGSTOP)
    standby.wait_for("leading")
    until(lambda: place.passes("b") > 3)
    written = place.passes("a")
    leader.send(signal.SIGCONT)
    status, _ = leader.wait()
    assert status == 1
    assert leader.says("is lost")
    assert place.passes("a") == written
    assert place.holders() == ["b"]


def test_without_election_there_is_no_lease(place: Namespace, start: Start) -> None:
    place.create_endpoint()
    start("a", ELECTION="no")
    until(lambda: place.passes("a") == 1)
    assert place.holders() == []


def _leader_and_standby(start: Start, **environment: str) -> tuple[OperatorProcess, OperatorProcess]:
    leader = start("a", **environment)
    leader.wait_for("leading")
    standby = start("b", **environment)
    standby.wait_for("is held by a")
    return leader, standby
