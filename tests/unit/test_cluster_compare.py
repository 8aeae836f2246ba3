"""Whether a live object says what is wanted: what the server and others add is no difference, a selector's is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sglang_operator.cluster.compare import covers

NAMES = st.text("abc", min_size=1, max_size=2)
LEAVES = st.none() | st.booleans() | st.integers(0, 3) | st.text("xy", max_size=2)
VALUES = st.recursive(LEAVES, lambda part: st.lists(part, max_size=3) | st.dictionaries(NAMES, part, max_size=3))
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=4)
ADDED = "added"


def with_more(part: Any) -> Any:
    """As the API server gives it back: a default more in every mapping, and no empty values."""
    if isinstance(part, list):
        return [with_more(item) for item in part]
    if not isinstance(part, dict):
        return part
    kept = {name: with_more(value) for name, value in part.items() if value not in (None, "", False, 0, [])}
    return {**kept, ADDED: "by the server"}


@given(OBJECTS)
def test_what_the_server_adds_or_leaves_out_is_no_difference(wanted: dict[str, Any]) -> None:
    assert covers(wanted, wanted)
    assert covers(with_more(wanted), wanted)


@given(OBJECTS, NAMES, st.integers(4, 9))
def test_another_value_is_one_however_deep(wanted: dict[str, Any], name: str, value: int) -> None:
    assert not covers(wanted, {**wanted, name: value})
    assert not covers({"spec": [wanted]}, {"spec": [{**wanted, name: value}]})


@pytest.mark.parametrize(
    ("live", "wanted"),
    [
        ({"a": [1, 2]}, {"a": [1]}),
        ({"a": [1]}, {"a": [1, 2]}),
        ({}, {"a": [1]}),
        ({}, {"a": {"b": 1}}),
        ({"selector": {"app": "x", "more": "y"}}, {"selector": {"app": "x"}}),
        (
            {"spec": {"podSelector": {"matchLabels": {"app": "x"}, "more": 1}}},
            {"spec": {"podSelector": {"matchLabels": {"app": "x"}}}},
        ),
        ({"from": [{"namespaceSelector": {"matchLabels": {"a": "b"}}}]}, {"from": [{"namespaceSelector": {}}]}),
        ({"ingress": [{"ports": [{"port": 1, "endPort": 9}]}]}, {"ingress": [{"ports": [{"port": 1}]}]}),
        ({"ingress": [{"ports": [{"port": 1}], "from": [{}]}]}, {"ingress": [{"ports": [{"port": 1}]}]}),
        ({"ingress": [{"from": [{"podSelector": {}, "ipBlock": {}}]}]}, {"ingress": [{"from": [{"podSelector": {}}]}]}),
        ({"a": "1"}, {"a": 1}),
        ({"a": {"b": 1}}, {"a": [1]}),
    ],
)
def test_a_difference(live: Any, wanted: Any) -> None:
    assert not covers(live, wanted)


@pytest.mark.parametrize("empty", ["", False, 0, None, [], ()])
def test_kubernetes_leaves_empty_values_out(empty: Any) -> None:
    assert covers({}, {"a": empty})


def test_a_selector_of_nothing_may_be_left_out() -> None:
    assert covers({}, {"selector": {}})


def test_what_others_set_on_the_service_is_left() -> None:
    """docs/reference/limits.md gives it as the way to fields that spec.api.service does not have."""
    port: dict[str, Any] = {"name": "http", "port": 80, "targetPort": "serve"}
    others = {"externalTrafficPolicy": "Local", "loadBalancerSourceRanges": ["192.0.2.0/24"]}
    live = {"type": "LoadBalancer", **others, "ports": [{**port, "nodePort": 30080}], "loadBalancerClass": "a/b"}
    assert covers({"spec": live}, {"spec": {"type": "LoadBalancer", "ports": [port]}})
