"""Reads what has no schema, `spec.podTemplate` and the like: anything may stand anywhere in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def part_at(value: Any, path: Iterable[str]) -> Any:
    """What stands at `path` in `value`; None where the way there leaves objects, or ends."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
