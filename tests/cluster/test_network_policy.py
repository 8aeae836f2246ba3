"""Whom an endpoint's pods hear on a network that keeps to its NetworkPolicy, and that these are enough to serve.

KubeRay and the operator are processes outside of the cluster here, which a policy of this test lets in; the rules of
ours are tried by pods that are labelled as theirs are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest
from cluster.actors import Operator, User, somebody, wait_until
from cluster.endpoints import CHAT, tiny_endpoint
from localcluster.cluster import LocalCluster
from localcluster.images import operator_name
from localcluster.policies import enforced

API, DASHBOARD, STATE = 8000, 8265, 6379  # Ray's job API is behind the dashboard's port, its state behind the other
METRICS = 8080, 8081, 9101
PORTS = {API, DASHBOARD, STATE, *METRICS}
OPERATOR = {"app.kubernetes.io/part-of": "sglang-operator", "app.kubernetes.io/component": "operator"}
HEARD: dict[str, tuple[dict[str, str], set[int]]] = {
    "stranger": ({"app": "stranger"}, {API}),
    "prometheus": ({"app.kubernetes.io/name": "prometheus"}, {API, *METRICS}),
    "operator": (OPERATOR, {API}),
    "kuberay": ({"app.kubernetes.io/name": "kuberay-operator"}, {API, DASHBOARD}),
}
NEIGHBOUR = "neighbour"  # in the namespace of the endpoint, and none of its pods
LOOK = """
import json, socket, sys
heard = []
for port in sys.argv[2:]:
    try:
        socket.create_connection((sys.argv[1], int(port)), 3).close()
    except OSError:
        continue
    heard.append(int(port))
print(json.dumps(heard))
"""
pytestmark = [pytest.mark.timeout(1500), pytest.mark.long]
Object = dict[str, Any]


@pytest.fixture(scope="module")
def others(cluster: LocalCluster) -> Iterator[User]:
    """Whoever runs pods in another namespace."""
    with somebody(cluster, "others") as user:
        start(user, {name: labels for name, (labels, _) in HEARD.items()})
        yield user
        user.run("delete", "pods", "--all", "--grace-period=0", "--force")


@pytest.fixture(scope="module")
def endpoint(cluster: LocalCluster, operator: Operator, others: User) -> Iterator[User]:
    """An endpoint that was made, and became ready, on such a network."""
    with enforced(cluster), somebody(cluster, "policy") as user:
        user.run("create", "--filename=-", stdin=json.dumps(this_machine(cluster.host)))
        start(user, {NEIGHBOUR: {"app": NEIGHBOUR}})
        user.apply(measured(tiny_endpoint()))
        user.wait_for("Ready", "True", seconds=900)
        yield user
        user.run("delete", "pod", NEIGHBOUR, "--grace-period=0", "--force")


def test_it_answers(endpoint: User) -> None:
    answer = httpx.post(f"{endpoint.url()}/v1/chat/completions", json=CHAT, timeout=120)
    assert answer.status_code == httpx.codes.OK, answer.text


@pytest.mark.parametrize("kind", ["head", "worker"])
def test_others_are_heard_on_their_ports_alone(endpoint: User, others: User, kind: str) -> None:
    of = {one: endpoint.pods(f"ray.io/node-type={one}")[0] for one in ("head", "worker")}
    address = of[kind]["status"]["podIP"]
    peer = of["worker" if kind == "head" else "head"]["metadata"]["name"]
    listening = looked(endpoint, peer, address)
    assert listening >= ({API, DASHBOARD, STATE, METRICS[0]} if kind == "head" else {API, *METRICS})
    for name, (_, allowed) in HEARD.items():
        assert looked(others, name, address) == listening & allowed, name
    assert looked(endpoint, NEIGHBOUR, address) == {API}


def test_a_second_policy_opens_them(endpoint: User, others: User) -> None:
    """Or the test before this one would not show what closes the ports."""
    head = endpoint.pods("ray.io/node-type=head")[0]["status"]["podIP"]
    endpoint.run("create", "--filename=-", stdin=json.dumps(policy("open", [{}])))
    wait_until(lambda: DASHBOARD in looked(others, "stranger", head), 60, "a second policy to open the ports")
    endpoint.run("delete", "networkpolicy", "open")
    wait_until(lambda: looked(others, "stranger", head) == {API}, 60, "them to be closed again")


def test_the_api_can_be_closed_in_place_but_for_some(cluster: LocalCluster, endpoint: User, others: User) -> None:
    """The operator is on this machine, which is therefore one of them."""
    workers, address = endpoint.workers(), endpoint.pods("ray.io/node-type=worker")[0]["status"]["podIP"]
    there = {"matchLabels": {"kubernetes.io/metadata.name": others.namespace}}
    stranger = {"namespaceSelector": there, "podSelector": {"matchLabels": HEARD["stranger"][0]}}
    endpoint.edit("api", {"allowFrom": [stranger, {"ipBlock": {"cidr": f"{cluster.host}/32"}}]})
    wait_until(lambda: not looked(endpoint, NEIGHBOUR, address), 60, "the API to be closed to a neighbour")
    assert looked(others, "stranger", address) == {API}
    assert [looked(others, one, address) for one in ("kuberay", "operator")] == [{API}, {API}]
    assert looked(others, "prometheus", address) == set(METRICS)
    test_it_answers(endpoint)
    endpoint.edit("api", {})
    wait_until(lambda: looked(endpoint, NEIGHBOUR, address) == {API}, 60, "the API to be open again")
    assert endpoint.workers() == workers


def measured(endpoint: Object) -> Object:
    """The endpoint with SGLang's own metrics, which have a port."""
    endpoint["spec"]["engine"]["args"] = {"enable_metrics": True}
    return endpoint


def looked(user: User, pod: str, address: str) -> set[int]:
    """The ports at which `address` hears that pod."""
    return set(json.loads(user.run("exec", pod, "--", "python", "-c", LOOK, address, *map(str, sorted(PORTS)))))


def start(user: User, pods: Mapping[str, Mapping[str, str]]) -> None:
    """One for each name, with these labels, which waits for `kubectl exec`."""
    waits = {"name": "waits", "image": operator_name(), "command": ["python", "-c", "import time; time.sleep(86400)"]}
    items = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": labels},
            "spec": {"containers": [{**waits, "imagePullPolicy": "IfNotPresent"}]},
        }
        for name, labels in pods.items()
    ]
    user.run("create", "--filename=-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    user.run("wait", "--for=condition=Ready", "pods", *pods, "--timeout=300s")


def this_machine(host: str) -> Object:
    """Where KubeRay is. The operator is there, too, and needs the API alone."""
    return policy("kuberay", [{"from": [{"ipBlock": {"cidr": f"{host}/32"}}], "ports": [{"port": DASHBOARD}]}])


def policy(name: str, ingress: list[Object]) -> Object:
    """For all pods of the namespace."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": ingress},
    }
