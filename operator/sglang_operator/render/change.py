"""What an edit of an endpoint does: which of its fields need new pods, and which reach those that run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from sglang_operator.api import Endpoint
from sglang_operator.render.revision import IN_PLACE, changed_fields, is_of_other_model, recorded_fields, written_fields


class Effect(Enum):
    """Of a changed field."""

    NEW_REVISION = "NewRevision"
    IN_PLACE = "InPlace"
    NONE = "None"  # it says what was so already


@dataclass(frozen=True)
class FieldChange:
    """One field below spec, by its YAML path, with its JSON values: as written, or its default; None without either."""

    path: str
    before: Any
    after: Any
    effect: Effect


def field_changes(before: Endpoint, after: Endpoint) -> tuple[FieldChange, ...]:
    """Every field that differs, in the order of their paths; () if the edit changes nothing.

    What needs a new revision is asked of the same function as the operator asks; it compares with what is recorded of
    the revision that serves, which is `before` unless an earlier edit has failed or is still on its way.
    """
    rolls = changed_fields(after, recorded_fields(before), written_fields(before))
    old, new = _leaves(before), _leaves(after)
    paths = old.keys() | new.keys()
    empty = {path for path in paths if any(one != path and _is_below(one, path) for one in paths)}  # on one side
    differing = sorted(path for path in paths - empty if old.get(path) != new.get(path))
    return tuple(FieldChange(path, old.get(path), new.get(path), _effect(path, rolls)) for path in differing)


def _effect(path: str, rolls: tuple[str, ...]) -> Effect:
    if any(_is_below(path, changed) or _is_below(changed, path) for changed in rolls):
        return Effect.NEW_REVISION
    if _is_below(path, "model.adapters") and is_of_other_model(rolls):
        return Effect.NEW_REVISION
    return Effect.IN_PLACE if any(_is_below(path, live) for live in IN_PLACE) else Effect.NONE


def _is_below(path: str, parent: str) -> bool:
    return path == parent or path.startswith(f"{parent}.")


def _leaves(endpoint: Endpoint) -> dict[str, Any]:
    """Every value by its path. An object that is there, and has nothing in it, is a value."""
    return dict(_flat(endpoint.written.model_dump(mode="json", by_alias=True), ""))


def _flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, part in value.items():
            yield from _flat(part, f"{path}.{name}".removeprefix("."))
    else:
        yield path, value
