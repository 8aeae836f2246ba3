"""That fields which an object was created with can go again."""

from __future__ import annotations

from typing import Any

from sglang_operator.cluster.managers import applied_only


def entry(operation: str, fields: dict[str, Any], manager: str = "sglang-operator", **more: str) -> dict[str, Any]:
    return {"manager": manager, "operation": operation, "fieldsV1": fields, **more}


def of(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"managedFields": list(entries)}}


SPEC: dict[str, Any] = {"f:spec": {"f:ports": {}, "f:type": {}}}
THEIRS = entry("Update", {"f:spec": {"f:clusterIP": {}}}, manager="kube-controller-manager")
STATUS = entry("Update", {"f:status": {}}, subresource="status")


def test_what_was_created_counts_as_applied() -> None:
    assert applied_only(of(entry("Update", SPEC), THEIRS, STATUS)) == [THEIRS, STATUS, entry("Apply", SPEC)]


def test_with_what_was_applied_since() -> None:
    since: dict[str, Any] = {"f:metadata": {"f:labels": {}}, "f:spec": {"f:selector": {}}}
    both: dict[str, Any] = {"f:metadata": {"f:labels": {}}, "f:spec": {"f:ports": {}, "f:type": {}, "f:selector": {}}}
    assert applied_only(of(entry("Update", SPEC), entry("Apply", since))) == [entry("Apply", both)]


def test_nothing_is_to_be_done_twice() -> None:
    assert applied_only(of(entry("Apply", SPEC), THEIRS, STATUS)) is None
    assert applied_only({"metadata": {}}) is None
