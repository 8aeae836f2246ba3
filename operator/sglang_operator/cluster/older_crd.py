"""Status under a CRD that is older than this operator: what it has no room for is left out, and told.

Who installs CRDs apart from the chart (`crds.install: false`) may forget them in an upgrade, and a server-side apply is
refused as a whole for one field that the schema does not have. Without its status an endpoint tells nobody anything.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from typing import Any, Final

from sglang_operator.cluster.api import Api, ApiError
from sglang_operator.cluster.paths import ENDPOINT
from sglang_operator.cluster.types import Key

log = logging.getLogger(__name__)

Object = dict[str, Any]
Path = tuple[str, ...]

# As structured-merge-diff names each of them: `.status.updating.countsFrom: field not declared in schema`, of a list
# with the item's key or number in brackets.
_UNDECLARED: Final = re.compile(r"\.(status\.\S+): field not declared in schema")
_ITEM: Final = re.compile(r"\[[^\]]*\]")
REMEDY: Final = "kubectl apply --server-side -f crds/ of this operator's version, or helm upgrade with crds.install"


class Room:
    """What the status of the cluster's CRD has room for, as far as this process has met it: a new process asks anew."""

    def __init__(self) -> None:
        self.lacking: frozenset[Path] = frozenset()

    def holds(self, status: Object, wanted: Object) -> bool:
        """There is nothing to write: what `wanted` has and `status` has not finds no room."""
        return status == wanted or {"status": status} == without({"status": wanted}, self.lacking)

    async def apply(self, api: Api, key: Key, patch: Object) -> None:
        """Apply it, in the end without what the CRD does not know. Raises ApiError."""
        missed: set[Path] = set()
        while unknown := await _refused(api, key, without(patch, missed)):
            missed |= {*unknown, *self.lacking}  # the server does not name all of them at once
            self._tell(missed)
        if not missed and without(patch, self.lacking) != patch:  # somebody has upgraded it
            self.lacking = frozenset()

    def _tell(self, unknown: Iterable[Path]) -> None:
        if new := sorted({*unknown} - self.lacking):
            names = ", ".join(map(".".join, new))
            log.warning("the CRD of SGLangEndpoint is older than this operator and lacks %s: %s", names, REMEDY)
            self.lacking = self.lacking.union(new)


async def _refused(api: Api, key: Key, patch: Object) -> tuple[Path, ...]:
    """Apply it; the fields of `patch` for which that was refused. Raises ApiError for anything else."""
    try:
        await api.apply(ENDPOINT.of(*key, "status"), patch)
    except ApiError as error:
        if found := tuple(path for path in undeclared(error.message) if without(patch, (path,)) != patch):
            return found
        raise
    return ()


def undeclared(message: str) -> tuple[Path, ...]:
    """The fields of status that a refusal names, in order; of list items without their place."""
    return tuple(dict.fromkeys(tuple(_ITEM.sub("", found).split(".")) for found in _UNDECLARED.findall(message)))


def without(patch: Object, paths: Iterable[Path]) -> Object:
    """A copy that lacks them, in each item where they are of items of a list."""
    for path in paths:
        patch = _without(patch, path)
    return patch


def _without(value: Any, path: Path) -> Any:
    if isinstance(value, list):
        return [_without(item, path) for item in value]
    if not isinstance(value, dict) or path[0] not in value:
        return value
    name, *rest = path
    kept = {key: item for key, item in value.items() if key != name}
    return {**kept, name: _without(value[name], tuple(rest))} if rest else kept
