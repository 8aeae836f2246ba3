"""What kopf is told to watch, and what becomes of its events. Kopf itself runs in tests/apiserver."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

import kopf
import pytest

from sglang_operator.app.watches import RETRY_SECONDS, build_registry, build_settings, key_of
from sglang_operator.cluster.paths import KINDS
from sglang_operator.cluster.types import Key


def event(kind: str, name: str, labels: dict[str, str] | None = None) -> dict[str, Any]:
    metadata: dict[str, Any] = {"namespace": "ns", "name": name}
    if labels is not None:
        metadata["labels"] = labels
    return {"type": "MODIFIED", "object": {"kind": kind, "metadata": metadata}}


@pytest.mark.parametrize("labels", [None, {}, {"serve.sglang.io/endpoint": "another"}])
def test_an_endpoint_is_its_own_key(labels: dict[str, str] | None) -> None:
    assert key_of(event("SGLangEndpoint", "qwen3", labels)) == Key("ns", "qwen3")


def test_a_child_belongs_to_the_endpoint_in_its_label() -> None:
    assert key_of(event("Pod", "qwen3-abc-0", {"serve.sglang.io/endpoint": "qwen3"})) == Key("ns", "qwen3")


@pytest.mark.parametrize("labels", [None, {}, {"app": "x"}])
def test_a_child_without_the_label_is_nobodys(labels: dict[str, str] | None) -> None:
    assert key_of(event("Pod", "alone", labels)) is None


def test_every_kind_of_a_pass_is_watched() -> None:
    watched = {selector.any_name for selector in build_registry(lambda _: None)._watching.get_all_selectors()}
    assert watched == {kind.plural for kind in KINDS.values()}


def test_children_are_filtered_by_the_server() -> None:
    selectors = build_settings(()).watching.label_selectors
    children = [kind for kind in KINDS.values() if kind.plural != "sglangendpoints"]
    chosen = {selectors[kind.group, kind.version, kind.plural] for kind in children}
    assert chosen == {"serve.sglang.io/endpoint"}
    assert len(selectors) == len(children)


def test_namespaces_do_without_rights_on_the_cluster() -> None:
    assert build_settings(("a",)).scanning.disabled
    assert not build_settings(()).scanning.disabled


def test_kopf_never_gives_a_request_up() -> None:
    """It would end, and the process with it, 54 s after somebody has taken away the right to watch one kind."""
    backoffs = build_settings(()).networking.error_backoffs
    assert isinstance(backoffs, Iterable)
    for _ in range(2):  # each request begins anew
        first, *_, last = islice(backoffs, 1000)
        assert (first, last) == (1.0, RETRY_SECONDS)


def test_kopf_keeps_no_state_of_its_own() -> None:
    registry = build_registry(lambda _: None)
    stateful = (registry._changing, registry._spawning, registry._indexing, registry._webhooks)
    assert not any(kind.get_all_handlers() for kind in stateful)
    settings = build_settings(())
    assert not settings.posting.enabled
    assert settings.peering.standalone


def test_events_are_not_copied() -> None:
    """Kopf copies whole objects for handlers of changes, of which there are none."""
    storage = build_settings(()).persistence.diffbase_storage
    assert not storage.build(body=kopf.Body({"spec": {"a": 1}}), extra_fields=())
    assert not build_registry(lambda _: None)._changing.get_all_handlers()
