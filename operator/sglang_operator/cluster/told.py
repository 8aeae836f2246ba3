"""What each revision is told of the spec in place: of adapters only those that are made for its model. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from sglang_operator.api import Endpoint
from sglang_operator.api.spec_model import Adapter, Lora
from sglang_operator.cluster.in_place import InPlace, in_place_of, recorded_user_config, written_values
from sglang_operator.cluster.metadata import name_of
from sglang_operator.cluster.records import StoredRevision, changes
from sglang_operator.cluster.selection import read_selection
from sglang_operator.cluster.snapshot import Snapshot
from sglang_operator.lifecycle.wanted import Wanted
from sglang_operator.render.revision import is_of_other_model


def told_of(endpoint: Endpoint, snapshot: Snapshot, wanted: str) -> dict[str, Endpoint]:
    """The endpoint as revisions of another model, or with other room for adapters, are told of it, by their names: each
    keeps the adapters that it has. Those of the spec are made for `wanted`, and come with it."""
    selection = read_selection(snapshot.service)
    live = {name_of(item): item for item in snapshot.ray_services}
    used = {*live, selection.revision, selection.previous} - {wanted}
    others = [stored for stored in snapshot.records if stored.name in used]
    return {
        stored.name: _with_adapters(endpoint, _adapters(stored, live.get(stored.name)))
        for stored in others
        if is_of_other_model(changes(endpoint, stored))
    }


def values_of(endpoint: Endpoint, wanted: Wanted, told: Mapping[str, Endpoint]) -> tuple[InPlace, dict[str, InPlace]]:
    """The values for every revision but those that are told otherwise, and by their names the values for these."""
    apart = {name: in_place_of(one, wanted.settings_of(name)) for name, one in told.items()}
    return in_place_of(endpoint, wanted.settings), apart


def _adapters(stored: StoredRevision, live: Mapping[str, Any] | None) -> tuple[Adapter, ...] | None:
    """What it was told last; where nothing of that is left, or somebody has spoilt it, what it was recorded with. None:
    it has room for none."""
    recorded = recorded_user_config(stored.ray_service).get("adapters")
    written = written_values(live) if live else None
    if recorded is None:
        return None
    with suppress(LookupError, TypeError, AttributeError):
        return _parsed(written.user_config.get("adapters", recorded) if written else recorded)
    return _parsed(recorded)


def _parsed(adapters: Sequence[Any]) -> tuple[Adapter, ...]:
    """Without the rules of today: they were valid when they were written."""
    return tuple(
        Adapter.model_construct(name=one["name"], uri=one["uri"], revision=one.get("revision", "main"))
        for one in adapters
    )


def _with_adapters(endpoint: Endpoint, adapters: tuple[Adapter, ...] | None) -> Endpoint:
    """Nothing of spec.model but these goes in place."""
    lora = None if adapters is None else endpoint.spec.model.lora or Lora()
    model = endpoint.spec.model.model_copy(update={"adapters": adapters or (), "lora": lora})
    return replace(endpoint, spec=endpoint.spec.model_copy(update={"model": model}))
