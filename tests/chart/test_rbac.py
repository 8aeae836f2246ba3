"""The rights of the operator are exactly those of rbac.yaml."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart.conftest import Chart

pytestmark = pytest.mark.chart

Json = dict[str, Any]
Right = tuple[str, str, str]  # group, resource, verb
COMMITTED = yaml.safe_load(Path(__file__).with_name("rbac.yaml").read_text(encoding="utf-8"))
AGGREGATED = "rbac.authorization.k8s.io/aggregate-to-"


def committed(*scopes: str) -> set[Right]:
    """The rights that rbac.yaml lists under `scopes`."""
    return {
        (*name.split("/", 1), verb)
        for scope in scopes
        for name, verbs in COMMITTED[scope].items()
        for verb in verbs.split()
    }


def rights(roles: Iterable[Json]) -> set[Right]:
    return {
        (group, resource, verb)
        for role in roles
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def aggregated_to(role: Json) -> set[str]:
    labels = role["metadata"]["labels"]
    return {label.removeprefix(AGGREGATED) for label in labels if label.startswith(AGGREGATED)}


def roles(objects: Iterable[Json], kind: str, namespace: str | None = None) -> Iterator[Json]:
    """The operator's own roles of one kind."""
    for one in objects:
        if one["kind"] == kind and one["metadata"].get("namespace") == namespace and not aggregated_to(one):
            yield one


def test_rights_in_the_whole_cluster(chart: Chart) -> None:
    objects = chart.render()
    assert rights(roles(objects, "ClusterRole")) == committed("endpoints", "cluster")
    assert rights(roles(objects, "Role", "serving")) == committed("lease")


def test_rights_in_namespaces(chart: Chart) -> None:
    """No ClusterRole is left but those for people, which the operator has no part in."""
    objects = chart.render({"watchNamespaces": ["a", "b"]})
    for namespace in ("a", "b"):
        assert rights(roles(objects, "Role", namespace)) == committed("endpoints")
    assert rights(roles(objects, "Role", "serving")) == committed("lease")
    assert not list(roles(objects, "ClusterRole"))
    assert "ClusterRoleBinding" not in {one["kind"] for one in objects}


def test_the_release_namespace_may_be_one_of_the_served_ones(chart: Chart) -> None:
    objects = chart.render({"watchNamespaces": ["serving"]})
    assert rights(roles(objects, "Role", "serving")) == committed("endpoints", "lease")


def test_every_binding_gives_a_rendered_role_to_the_operator(chart: Chart) -> None:
    for values in ({}, {"watchNamespaces": ["a", "b"]}, {"serviceAccount": {"create": False, "name": "mine"}}):
        objects = chart.render(values)
        found = {(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in objects}
        (deployment,) = (one for one in objects if one["kind"] == "Deployment")
        account = deployment["spec"]["template"]["spec"]["serviceAccountName"]
        bindings = [one for one in objects if one["kind"].endswith("Binding")]
        assert len(bindings) == len([role for role in found if role[0] in ("Role", "ClusterRole")]) - 2
        for binding in bindings:
            role = binding["roleRef"]
            assert (role["kind"], binding["metadata"].get("namespace"), role["name"]) in found
            assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": "serving"}]


def test_the_lease_is_limited_to_its_name(chart: Chart) -> None:
    """All but create, which Kubernetes cannot limit by name."""
    (role,) = roles(chart.render(), "Role", "serving")
    unnamed = [rule for rule in role["rules"] if "resourceNames" not in rule]
    assert rights([{"rules": unnamed}]) == {("coordination.k8s.io", "leases", "create")}


def test_rights_of_people(chart: Chart) -> None:
    found = {frozenset(aggregated_to(one)): rights([one]) for one in chart.render() if aggregated_to(one)}
    assert found == {
        frozenset({"view", "edit", "admin"}): committed("view"),
        frozenset({"edit", "admin"}): committed("edit"),
    }


def test_no_role_reads_secrets_or_enters_pods() -> None:
    """So that nobody adds it to rbac.yaml without reading this: keys and tokens are the kubelet's business."""
    for _, resource, verb in committed(*COMMITTED):
        assert "*" not in (resource, verb)
        assert resource not in ("secrets", "pods/exec", "pods/attach", "pods/portforward", "pods/proxy")
        assert verb not in ("escalate", "bind", "impersonate")
