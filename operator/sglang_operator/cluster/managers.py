"""Who has written the fields of an object, as `metadata.managedFields` says. Pure.

An apply removes the fields that the same manager has applied before and leaves out now. What it has created by POST
counts as another manager's, so that such a field would stay for ever. kubectl mends that in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Any

from sglang_operator.cluster.api import FIELD_MANAGER

Object = dict[str, Any]


def applied_only(live: Mapping[str, Any]) -> list[Object] | None:
    """managedFields in which all that the operator has written counts as applied; None if it does already."""
    entries = live["metadata"].get("managedFields") or []
    ours = [one for one in entries if one.get("manager") == FIELD_MANAGER and not one.get("subresource")]
    if not any(one["operation"] == "Update" for one in ours):
        return None
    fields = reduce(_union, (one["fieldsV1"] for one in ours))
    applied = {**ours[-1], "operation": "Apply", "fieldsV1": fields}
    return [*(one for one in entries if one not in ours), applied]


def _union(one: Mapping[str, Any], other: Mapping[str, Any]) -> Object:
    return {**one, **{key: _union(one.get(key, {}), value) for key, value in other.items()}}
