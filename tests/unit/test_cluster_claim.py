"""The claim of the model cache: who owns it, and what of the spec it cannot follow."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sglang_operator.api.spec_model import Cache
from sglang_operator.cluster.claim import REFUSED, differences, owners, refusal
from sglang_operator.cluster.metadata import Owner
from sglang_operator.cluster.types import Key

OWNER = Owner(Key("default", "llama"), "uid-1")
OTHER = {"kind": "Backup", "uid": "uid-9"}
OURS = {"app.kubernetes.io/managed-by": "sglang-operator", "serve.sglang.io/endpoint": "llama"}


def claim(phase: str = "Bound", size: str = "100Gi", mode: str = "ReadWriteMany", **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "llama-cache", "labels": OURS, **metadata},
        "spec": {
            "accessModes": [mode],
            "storageClassName": "files",
            "resources": {"requests": {"storage": size}},
        },
        "status": {"phase": phase},
    }


def refused(size: str) -> dict[str, Any]:
    note = {"size": size, "at": "2026-01-01T00:00:00Z", "message": "only dynamically provisioned pvc can be resized"}
    return claim(annotations={REFUSED: json.dumps(note)})


@pytest.mark.parametrize(
    ("reclaim", "before", "after"),
    [
        ("Retain", [], None),
        ("Retain", [OTHER], None),
        ("Retain", [OTHER, OWNER.reference], [OTHER]),
        ("Delete", [OTHER], [OTHER, OWNER.reference]),
        ("Delete", [OWNER.reference], None),
    ],
)
def test_the_endpoint_owns_it_if_it_is_to_go_with_it(reclaim: Any, before: list[Any], after: list[Any] | None) -> None:
    assert owners(claim(ownerReferences=before), OWNER, Cache(reclaim=reclaim)) == after


@pytest.mark.parametrize(
    ("live", "cache", "path", "says", "remedy"),
    [
        (claim(mode="ReadWriteOnce"), {}, "accessMode", "llama-cache has ReadWriteOnce", "delete the claim"),
        (claim(), {"storageClassName": "fast"}, "storageClassName", "has files", "claimName"),
        (claim(), {"size": "64Gi"}, "size", "does not shrink a claim, and llama-cache has 100Gi", "write 100Gi"),
        (claim("Pending"), {"size": "200Gi"}, "size", "has no volume yet", "wait"),
        (refused("200Gi"), {"size": "200Gi"}, "size", "only dynamically provisioned", "allowVolumeExpansion"),
        (claim(labels={}), {"size": "200Gi"}, "size", "was not made by the operator", "by hand"),
    ],
)
def test_what_it_cannot_follow_is_told(live: Any, cache: dict[str, Any], path: str, says: str, remedy: str) -> None:
    (found,) = differences(live, Cache.model_validate(cache), OWNER)
    assert found.path == f"spec.model.cache.{path}"
    assert says in found.message
    assert remedy in found.remedy


@pytest.mark.parametrize(
    ("live", "cache"),
    [
        (None, {}),
        (claim(), {}),
        (claim(size="102400Mi"), {"storageClassName": "files"}),
        (claim(), {"size": "200Gi"}),
        (refused("150Gi"), {"size": "200Gi"}),
        (claim(deletionTimestamp="2026-01-01T00:00:00Z"), {"size": "1Gi"}),
    ],
)
def test_what_it_has_or_is_about_to_get_is_no_warning(live: Any, cache: dict[str, Any]) -> None:
    assert differences(live, Cache.model_validate(cache), OWNER) == ()


@pytest.mark.parametrize(
    "spoilt",
    [
        *("", "x", "[]", "7", '{"size": "200Gi"}', '{"size": "200Gi", "at": "noon", "message": "m"}'),
        pytest.param("[" * 100_000, id="deep"),
    ],
)
def test_a_spoilt_memory_of_a_refusal_is_none(spoilt: str) -> None:
    """The cluster is asked again, and refuses again if it must."""
    live = claim(annotations={REFUSED: spoilt})
    assert refusal(live, "200Gi") is None
    assert differences(live, Cache(size="200Gi"), OWNER) == ()


def test_without_a_cache_a_claim_that_is_left_is_no_warning() -> None:
    assert differences(claim(), None, OWNER) == ()
