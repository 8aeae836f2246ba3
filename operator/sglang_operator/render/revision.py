"""Names of revisions: a stable hash over the fields that need new pods, never over what is rendered from them.

A hash over rendered bytes would roll every endpoint when a template changes. Fields that nobody wrote are left out, so
that neither a field which a later version adds nor another default renames a revision. A field that is written counts
even at its default: the defaults of the platform, or of another version, may be others, and it says more than they do.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from sglang_operator.api import Endpoint

# The fields whose description does not say [R]; a test holds the two together.
IN_PLACE = frozenset(
    {
        "replicas",
        "scaling",
        "paused",
        "upgrade.strategy",
        "upgrade.whenNoCapacity",
        "upgrade.capacityTimeoutSeconds",
        "upgrade.progressDeadlineSeconds",
        "upgrade.minReadySeconds",
        "upgrade.keepFailedSeconds",
        "upgrade.historyLimit",
        "model.cache.size",
        "model.cache.storageClassName",
        "model.cache.accessMode",
        "model.cache.reclaim",
        "model.adapters",
        "engine.argsCheck",
        "api.allowAnonymous",
        "api.allowFrom",
        "api.unknownModel",
        "api.service",
        "api.ingress",
        "api.route",
        "api.limits",
    }
)
# An adapter is trained for one model, and loaded into room that is reserved at the start.
_OF_ADAPTERS = ("model.uri", "model.revision", "model.lora")
HASH_LENGTH = 8  # the longest endpoint name (38) + "-" + 8 = 47, the longest name of a RayService


def revision_name(endpoint: Endpoint) -> str:
    """Name of the RayService that serves this endpoint as it is now: `<endpoint>-<hash>`."""
    return f"{endpoint.name}-{short_hash(rollout_fields(endpoint.written))}"


def short_hash(value: Any) -> str:
    """Eight characters of [a-z2-7] that differ when `value`, anything that JSON can say, differs."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return base64.b32encode(hashlib.sha256(text.encode()).digest()).decode().lower()[:HASH_LENGTH]


def rollout_fields(part: BaseModel, prefix: str = "") -> dict[str, Any]:
    """The [R] fields of a part of the spec that somebody wrote, by their YAML names."""
    found: dict[str, Any] = {}
    for name, field in type(part).model_fields.items():
        key = field.alias or name
        value = getattr(part, name)
        if prefix + key in IN_PLACE or name not in part.model_fields_set:
            continue
        if isinstance(value, BaseModel):
            inner = rollout_fields(value, f"{prefix}{key}.")
            if inner or field.default is None:  # an optional object counts by being there
                found[key] = inner
        else:
            found[key] = _plain(value)
    return found


@dataclass(frozen=True)
class _Field:
    """One [R] field of a spec by its YAML path."""

    path: str
    value: Any
    is_default: bool
    is_written: bool


def _fields(part: BaseModel, prefix: str = "") -> Iterator[_Field]:
    """Every one, those of optional objects only if they are there.

    An optional object also is a field of its own, true if it is there: its fields all at their defaults still mean
    something else than its absence.
    """
    for name, field in type(part).model_fields.items():
        path = f"{prefix}{field.alias or name}"
        value, is_written = getattr(part, name), name in part.model_fields_set
        if path in IN_PLACE:
            continue
        if not isinstance(value, BaseModel):
            yield _Field(path, _plain(value), value == field.default, is_written)
            continue
        if field.default is None:
            yield _Field(path, value=True, is_default=False, is_written=is_written)
        yield from _fields(value, f"{path}.")


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return (
        value.model_dump(mode="json", by_alias=True, exclude_defaults=True) if isinstance(value, BaseModel) else value
    )


def recorded_fields(endpoint: Endpoint) -> dict[str, Any]:
    """Every [R] field by its YAML path, as a record keeps it: what the user wrote, and under it the defaults in effect,
    the platform's included. A mapping that is written has the user's entries only."""
    own = {field.path: field.value for field in _fields(endpoint.written) if field.is_written}
    return {field.path: field.value for field in _fields(endpoint.spec)} | own


def written_fields(endpoint: Endpoint) -> frozenset[str]:
    """YAML paths of the [R] fields that the user wrote, whatever their value."""
    return frozenset(field.path for field in _fields(endpoint.written) if field.is_written)


def changed_fields(endpoint: Endpoint, recorded: Mapping[str, Any], written: Collection[str]) -> tuple[str, ...]:
    """YAML paths of the [R] fields in which `endpoint` differs from a record, sorted; () means no rollout is needed.

    `recorded` has the values then, defaults included, and `written` the paths that the user had written. What the user
    wrote neither then nor now keeps the default of then. What was written on one side only is held against the default
    in effect on the other. A field that the record does not know entered the API later: it counts if the user gives it
    another value than its default.
    """
    now, said = recorded_fields(endpoint), written_fields(endpoint)
    used = {field.path for field in _fields(endpoint.written) if not field.is_default}
    known = now.keys() & recorded.keys() & (said | frozenset(written))
    return tuple(
        sorted(
            {path for path in known if not _same(now[path], recorded[path], path in said, path in written)}
            | ((now.keys() - recorded.keys()) & used)
        )
    )


def is_of_other_model(changed: Iterable[str]) -> bool:
    """Whether a spec with these changed fields has its adapters for another model, or other room, than was recorded."""
    return any(path == one or path.startswith(f"{one}.") for path in changed for one in _OF_ADAPTERS)


def _same(now: Any, then: Any, is_written: bool, was_written: bool) -> bool:
    """Whether a value means what was recorded. A mapping goes over the default one entry by entry, so a written one
    changes nothing where the default has all of its entries."""
    if is_written and not was_written:
        return _adds_nothing(now, then)
    if was_written and not is_written:
        return _adds_nothing(then, now)
    return bool(now == then)


def _adds_nothing(value: Any, default: Any) -> bool:
    if isinstance(value, Mapping) and isinstance(default, Mapping):
        return all(name in default and _adds_nothing(part, default[name]) for name, part in value.items())
    return bool(value == default)
