"""`spec.api.allowFrom`: who may connect to the API, and who must."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import schemas
from click.testing import CliRunner
from unit.api_objects import endpoint
from unit.rendered import Json, render

from sglang_operator.api import InvalidEndpoint, parse_endpoint
from sglang_operator.api.defaults import parse_with_defaults
from sglang_operator.app import credentials
from sglang_operator.cli.main import group
from sglang_operator.cluster.compare import covers
from sglang_operator.render import Platform
from sglang_operator.render.change import Effect, field_changes

API = 8000
NEIGHBOURS: Json = {"podSelector": {}}
CHAT: Json = {"podSelector": {"matchLabels": {"app": "chat"}}}
OPERATOR = {"app.kubernetes.io/part-of": "sglang-operator", "app.kubernetes.io/component": "operator"}
KUBERAY = [
    {"app.kubernetes.io/name": "kuberay-operator"},
    {"app.kubernetes.io/name": "kuberay", "app.kubernetes.io/component": "kuberay-operator"},
]


def policy(*peers: Json, platform: Platform | None = None) -> Json:
    made: Json = render(platform, api={"allowFrom": list(peers)} if peers else {})["NetworkPolicy"]
    assert schemas.errors(made) == []
    return made


def admitted(made: Json, port: int = API) -> list[Json] | None:
    """Peers of every rule for this port; None is everybody. Rules for all ports aside."""
    rules = [rule for rule in made["spec"]["ingress"] if any(one["port"] == port for one in rule.get("ports", []))]
    return None if any("from" not in rule for rule in rules) else [peer for rule in rules for peer in rule["from"]]


def test_unset_it_is_everybody() -> None:
    assert admitted(policy()) is None


def test_it_is_those_that_it_names_and_those_who_must_ask() -> None:
    anywhere: Json = {"namespaceSelector": {}}
    must = [{**anywhere, "podSelector": {"matchLabels": labels}} for labels in (OPERATOR, *KUBERAY)]
    assert admitted(policy(CHAT, NEIGHBOURS)) == [CHAT, NEIGHBOURS, *must]


def test_nothing_else_changes() -> None:
    """Its own pods reach all ports, Prometheus its three, KubeRay the dashboard."""
    before, after = policy()["spec"], policy(CHAT)["spec"]
    assert (before["podSelector"], before["policyTypes"]) == (after["podSelector"], after["policyTypes"])
    assert [rule for rule in before["ingress"] if "ports" not in rule] == [
        rule for rule in after["ingress"] if "ports" not in rule
    ]
    for port in (8080, 8081, 9101, 8265):
        assert admitted({"spec": after}, port) == admitted({"spec": before}, port)


def test_the_operator_and_kuberay_are_admitted_from_their_namespaces() -> None:
    """A label is anybody's to give; a namespace is not."""
    platform = Platform(kuberay_namespace="ray", operator_namespace="serving")
    (_, *others) = admitted(policy(CHAT, platform=platform)) or []
    named = [peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for peer in others]
    assert named == ["serving", "ray", "ray"]


@pytest.mark.parametrize(
    "peer",
    [
        NEIGHBOURS,
        {"namespaceSelector": {}},
        {"namespaceSelector": {"matchLabels": {"team": "a"}}, "podSelector": {"matchLabels": {"app": ""}}},
        {"podSelector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["a", "b"]}]}},
        {"podSelector": {"matchExpressions": [{"key": "example.org/x", "operator": "Exists"}]}},
        {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "192.168.0.0/16"]}},
        {"ipBlock": {"cidr": "2001:db8::/32"}},
    ],
    ids=str,
)
def test_a_peer_is_written_as_it_is(peer: Json) -> None:
    assert (admitted(policy(peer)) or [])[0] == peer


def test_what_is_empty_is_left_out_as_the_api_server_does() -> None:
    """Or the live policy would differ from the rendered one for ever."""
    exists = {"key": "a", "operator": "Exists"}
    written: Json = {
        "podSelector": {"matchLabels": {}, "matchExpressions": [{**exists, "values": []}]},
        "namespaceSelector": {"matchLabels": {}, "matchExpressions": []},
    }
    (peer, *_) = admitted(policy(written)) or []
    assert peer == {"podSelector": {"matchExpressions": [exists]}, "namespaceSelector": {}}
    (block, *_) = admitted(policy({"ipBlock": {"cidr": "10.0.0.0/8", "except": []}})) or []
    assert block == {"ipBlock": {"cidr": "10.0.0.0/8"}}


def test_a_null_is_absent() -> None:
    assert parse_endpoint(endpoint(api={"allowFrom": None})).spec.api.allow_from is None
    (peer, *_) = admitted(policy({"podSelector": {"matchLabels": None}, "ipBlock": None})) or []
    assert peer == NEIGHBOURS


@pytest.mark.parametrize(
    ("peer", "place", "says"),
    [
        ({"ipBlock": {"cidr": "10.0.0.0"}}, "ipBlock.cidr", "must be a CIDR, such as 10.0.0.0/8"),
        ({"ipBlock": {"cidr": "10.0.0.300/8"}}, "ipBlock.cidr", "must be a CIDR, such as 10.0.0.0/8"),
        ({"ipBlock": {"cidr": "10.0.0.0/33"}}, "ipBlock.cidr", "must be a CIDR, such as 10.0.0.0/8"),
        ({"ipBlock": {"cidr": "10.20.5.1/16"}}, "ipBlock.cidr", "as Kubernetes 1.36 wants it: 10.20.0.0/16"),
        ({"ipBlock": {"cidr": "10.0.0.0/08"}}, "ipBlock.cidr", "must be a CIDR"),
        ({"ipBlock": {"cidr": "::ffff:10.0.0.0/104"}}, "ipBlock.cidr", "as Kubernetes 1.36 wants it"),
        ({"ipBlock": {"cidr": "10.0.0.0/255.0.0.0"}}, "ipBlock.cidr", "must be a CIDR, such as 10.0.0.0/8"),
        (
            {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "11.0.0.0/16"]}},
            "ipBlock.except",
            "must be parts of cidr, and 11.0.0.0/16 is none",
        ),
        ({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}}, "ipBlock.except", "must be parts of cidr"),
        ({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["::/64"]}}, "ipBlock.except", "must be parts of cidr"),
        ({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["x"]}}, "ipBlock.except[0]", "must be a CIDR"),
        (
            {"podSelector": {"matchLabels": {"a b": "c"}}},
            'podSelector.matchLabels["a b"]',
            "must be at most 63 letters",
        ),
        ({"podSelector": {"matchLabels": {"a": "b/c"}}}, "podSelector.matchLabels.a", "as every label value"),
        ({"podSelector": {"app": "chat"}}, "podSelector.app", "unknown field"),
        ({"podSelector": {"matchExpressions": [{"key": "a"}]}}, "podSelector.matchExpressions[0].operator", "required"),
    ],
)
def test_a_wrong_peer_is_refused_once_with_its_place(peer: Json, place: str, says: str) -> None:
    with pytest.raises(InvalidEndpoint) as refused:
        parse_endpoint(endpoint(api={"allowFrom": [peer]}))
    (error,) = refused.value.errors
    assert error.path == f"spec.api.allowFrom[0].{place}"
    assert says in error.message


def test_it_reaches_what_serves_without_new_pods() -> None:
    before = parse_endpoint(endpoint(api={"allowFrom": [CHAT]}))
    for after in ({"allowFrom": [CHAT, NEIGHBOURS]}, {}):
        (change,) = field_changes(before, parse_endpoint(endpoint(api=after)))
        assert (change.path, change.effect) == ("api.allowFrom", Effect.IN_PLACE)


def test_diff_shows_it_as_it_is_written(tmp_path: Path) -> None:
    for name, peers in (("before", {}), ("after", {"allowFrom": [CHAT]})):
        (tmp_path / name).write_text(json.dumps(endpoint(api=peers)))
    done = CliRunner().invoke(group, ["diff", "--from", str(tmp_path / "before"), "-f", str(tmp_path / "after")])
    assert done.output.splitlines() == [
        "default/qwen3: in place",
        '  spec.api.allowFrom  (not set) -> [{"podSelector": {"matchLabels": {"app": "chat"}}}]  in place',
    ]


def test_a_platform_default_is_replaced_by_the_users_own() -> None:
    defaults: dict[str, Any] = {"api": {"allowFrom": [NEIGHBOURS]}}
    allowed = [
        parse_with_defaults(endpoint(api=api), defaults).spec.api.allow_from for api in ({}, {"allowFrom": [CHAT]})
    ]
    assert [[peer.model_dump(by_alias=True) for peer in one or ()] for one in allowed] == [
        [NEIGHBOURS],
        [CHAT],
    ]


def test_a_hole_made_by_hand_is_a_difference() -> None:
    wanted = policy(CHAT)["spec"]
    for live in (
        policy()["spec"],
        policy(CHAT, NEIGHBOURS)["spec"],
        {
            **wanted,
            "ingress": [{key: value for key, value in rule.items() if key != "from"} for rule in wanted["ingress"]],
        },
    ):
        assert not covers(live, wanted)
    assert covers(wanted, wanted)


def test_where_the_operator_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(credentials, "SERVICE_ACCOUNT", tmp_path)
    monkeypatch.delenv("POD_NAMESPACE", raising=False)
    assert credentials.pod_namespace() == ""  # outside of a cluster
    (tmp_path / "token").touch()
    (tmp_path / "namespace").write_text("serving\n")
    assert credentials.pod_namespace() == "serving"
    monkeypatch.setenv("POD_NAMESPACE", "other")
    assert credentials.pod_namespace() == credentials.own_namespace() == "other"
