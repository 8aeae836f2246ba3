"""Names of revisions: a stable hash over the fields that need new pods, never over what is rendered from them.

A hash over rendered bytes would roll every endpoint when a template changes. Fields that have their default are left
out, so that a field which a later version adds does not rename the revisions of endpoints that do not use it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Collection, Mapping
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
        "model.adapters",
        "engine.argsCheck",
        "api.allowAnonymous",
        "api.unknownModel",
        "api.service",
        "api.ingress",
        "api.route",
        "api.limits",
    }
)
HASH_LENGTH = 8  # the longest endpoint name (38) + "-" + 8 = 47, the longest name of a RayService


def revision_name(endpoint: Endpoint) -> str:
    """Name of the RayService that serves this endpoint as it is now: `<endpoint>-<hash>`."""
    return f"{endpoint.name}-{short_hash(rollout_fields(endpoint.written))}"


def short_hash(value: Any) -> str:
    """Eight characters of [a-z2-7] that differ when `value`, anything that JSON can say, differs."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return base64.b32encode(hashlib.sha256(text.encode()).digest()).decode().lower()[:HASH_LENGTH]


def rollout_fields(part: BaseModel, prefix: str = "") -> dict[str, Any]:
    """The [R] fields of a part of the spec that differ from their defaults, by their YAML names."""
    found: dict[str, Any] = {}
    for name, field in type(part).model_fields.items():
        key = field.alias or name
        value = getattr(part, name)
        if prefix + key in IN_PLACE:
            continue
        if isinstance(value, BaseModel):
            inner = rollout_fields(value, f"{prefix}{key}.")
            if inner or field.default is None:  # an optional object counts by being there
                found[key] = inner
        elif value != field.default:
            found[key] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return (
        value.model_dump(mode="json", by_alias=True, exclude_defaults=True) if isinstance(value, BaseModel) else value
    )


def recorded_fields(part: BaseModel, prefix: str = "") -> dict[str, Any]:
    """Every [R] field of a part of the spec by its YAML path, defaults included, as a record keeps it.

    An optional object also has an entry of its own, true if it is there: its fields all at their defaults still mean
    something else than its absence.
    """
    found: dict[str, Any] = {}
    for name, field in type(part).model_fields.items():
        path = f"{prefix}{field.alias or name}"
        value = getattr(part, name)
        if path in IN_PLACE:
            continue
        if isinstance(value, BaseModel):
            found |= {path: True} if field.default is None else {}
            found |= recorded_fields(value, f"{path}.")
        else:
            found[path] = _plain(value)
    return found


def written_fields(part: BaseModel, prefix: str = "") -> frozenset[str]:
    """YAML paths of the [R] fields that somebody wrote, whatever their value."""
    found: set[str] = set()
    for name in part.model_fields_set:
        field = type(part).model_fields[name]
        path, value = f"{prefix}{field.alias or name}", getattr(part, name)
        if path in IN_PLACE:
            continue
        if not isinstance(value, BaseModel) or field.default is None:
            found.add(path)
        if isinstance(value, BaseModel):
            found |= written_fields(value, f"{path}.")
    return frozenset(found)


def changed_fields(spec: BaseModel, recorded: Mapping[str, Any], written: Collection[str]) -> tuple[str, ...]:
    """YAML paths of the [R] fields in which `spec` differs from a record, sorted; () means no rollout is needed.

    `recorded` has the values then, defaults included, and `written` the paths that the user had written. What the user
    wrote neither then nor now keeps the default of then. A field that the record does not know entered the API later:
    it counts if it has another value than its default.
    """
    now, used = recorded_fields(spec), _paths(rollout_fields(spec))
    said = written_fields(spec) | frozenset(written)
    known = (path for path in now.keys() & recorded.keys() if path in said and now[path] != recorded[path])
    return tuple(sorted({*known, *(path for path in now.keys() - recorded.keys() if path in used)}))


def _paths(fields: Mapping[str, Any], prefix: str = "") -> set[str]:
    """The path of every value and of every mapping on the way to it."""
    paths: set[str] = set()
    for name, value in fields.items():
        paths.add(f"{prefix}{name}")
        if isinstance(value, dict):
            paths |= _paths(value, f"{prefix}{name}.")
    return paths
