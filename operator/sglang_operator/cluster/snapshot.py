"""The only reads of a pass: everything that the cluster holds of one endpoint, in one value."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from sglang_operator.cluster.api import Api, ApiError
from sglang_operator.cluster.metadata import labels_of, name_of
from sglang_operator.cluster.paths import (
    BUDGET,
    CLAIM,
    INGRESS,
    POD,
    POLICY,
    RAY_CLUSTER,
    RAY_SERVICE,
    RECORD,
    ROUTE,
    SERVICE,
    Kind,
)
from sglang_operator.cluster.records import StoredRevision, read_record
from sglang_operator.cluster.selection import read_selection
from sglang_operator.cluster.types import Key
from sglang_operator.render import names

Object = Mapping[str, Any]
# What is made beside the revisions and goes when the spec does not ask for it any more.
PRUNED: Final = (BUDGET, INGRESS, POLICY, ROUTE)


@dataclass(frozen=True)
class Snapshot:
    """This endpoint's objects as they were read. Those of other owners are left out, whatever their names and labels:
    they are never touched, and that a name is taken shows when ours is created."""

    endpoint: Object
    records: tuple[StoredRevision, ...] = ()
    ray_services: tuple[Object, ...] = ()
    ray_clusters: tuple[Object, ...] = ()
    pods: tuple[Object, ...] = ()
    service: Object | None = None
    claim: Object | None = None
    """Of the model cache, if the endpoint has one of its own."""
    others: Mapping[str, tuple[Object, ...]] = field(default_factory=dict)
    """The kinds in PRUNED, by name of the kind."""
    unlabelled: tuple[Object, ...] = ()
    """Records and RayServices that have lost the label by which they are listed. They are among the others, too."""
    absent: frozenset[str] = frozenset()
    """Names of optional kinds that the cluster does not have."""

    def of(self, kind: str, name: str) -> Object | None:
        """One of `others`."""
        return next((item for item in self.others.get(kind, ()) if item["metadata"]["name"] == name), None)


async def take_snapshot(api: Api, key: Key, endpoint: Object, claim: str = "") -> Snapshot:
    """Read all of it, at once: a handful of lists by label, and the `claim` of this name. Raises ApiError."""
    uid = endpoint["metadata"]["uid"]
    stored, service, cache = await asyncio.gather(
        api.list(RECORD.of(key.namespace), _labels(key)),
        api.find(SERVICE.of(key.namespace, key.name)),
        _find_claim(api, key, claim),
    )
    records = tuple(read_record(item) for item in stored if _is_owned(item, uid))
    own = service if _is_owned(service, uid) else None
    first = Snapshot(endpoint=endpoint, records=records, service=own, claim=cache)
    # Also without a record: of an endpoint that was deleted and made again, pods of the same names may still drain.
    return await _with_unlabelled(api, key, await _with_lists(api, key, first))


async def _with_lists(api: Api, key: Key, snapshot: Snapshot) -> Snapshot:
    kinds = (RAY_SERVICE, RAY_CLUSTER, POD, *PRUNED)
    lists = await asyncio.gather(*(_list(api, kind, key) for kind in kinds))
    found = {kind.name: items or () for kind, items in zip(kinds, lists, strict=True)}
    uid = snapshot.endpoint["metadata"]["uid"]
    # KubeRay copies labels from a RayService to what it makes of it.
    clusters = _not_of(found[RAY_CLUSTER.name], [item for item in found[RAY_SERVICE.name] if not _is_owned(item, uid)])
    strange = [item for item in found[RAY_CLUSTER.name] if item not in clusters]
    return replace(
        snapshot,
        ray_services=tuple(item for item in found[RAY_SERVICE.name] if _is_owned(item, uid)),
        ray_clusters=clusters,
        pods=_not_of(found[POD.name], strange),
        others={kind.name: tuple(item for item in found[kind.name] if _is_owned(item, uid)) for kind in PRUNED},
        absent=frozenset(kind.name for kind, items in zip(kinds, lists, strict=True) if items is None),
    )


async def _with_unlabelled(api: Api, key: Key, snapshot: Snapshot) -> Snapshot:
    """Look by name for what must be there and was not listed. There is no such name but while revisions come or go."""
    newest = max(snapshot.records, key=lambda stored: stored.record.number, default=None)
    listed = (*snapshot.ray_services, *snapshot.ray_clusters, *snapshot.pods)
    wanted = {labels_of(item).get(names.REVISION, "") for item in listed}
    wanted |= {read_selection(snapshot.service).revision, newest.name if newest else ""}
    lost = wanted - {name_of(item) for item in snapshot.ray_services} - {""}
    services = await _find_own(api, key, RAY_SERVICE, lost, snapshot.endpoint["metadata"]["uid"])
    lost = wanted - {stored.name for stored in snapshot.records} - {""}
    records = await _find_own(api, key, RECORD, lost, snapshot.endpoint["metadata"]["uid"])
    return replace(
        snapshot,
        ray_services=(*snapshot.ray_services, *services),
        records=(*snapshot.records, *map(read_record, records)),
        unlabelled=(*services, *records),
    )


async def _find_own(api: Api, key: Key, kind: Kind, wanted: set[str], uid: str) -> list[Object]:
    found = await asyncio.gather(*(api.find(kind.of(key.namespace, name)) for name in sorted(wanted)))
    return [item for item in found if item is not None and _is_unlabelled(item, key) and _is_owned(item, uid)]


def _is_unlabelled(item: Object, key: Key) -> bool:
    """What has its label came after the list was made."""
    return labels_of(item).get(names.ENDPOINT) != key.name


async def _find_claim(api: Api, key: Key, name: str) -> Object | None:
    return await api.find(CLAIM.of(key.namespace, name)) if name else None


def _not_of(items: tuple[Object, ...], owners: Sequence[Object]) -> tuple[Object, ...]:
    """Those that none of `owners` owns."""
    uids = [owner["metadata"]["uid"] for owner in owners]
    return tuple(item for item in items if not any(_is_owned(item, uid) for uid in uids))


async def _list(api: Api, kind: Kind, key: Key) -> tuple[Object, ...] | None:
    """None if the cluster does not have this kind."""
    try:
        items = await api.list(kind.of(key.namespace), _labels(key))
        # The items of a list do not say what they are.
        return tuple({**item, "apiVersion": kind.api_version, "kind": kind.name} for item in items)
    except ApiError as error:
        if error.is_absent and kind.is_optional:
            return None
        raise


def _labels(key: Key) -> str:
    return f"{names.ENDPOINT}={key.name}"


def _is_owned(item: Object | None, uid: str) -> bool:
    references = (item or {}).get("metadata", {}).get("ownerReferences") or []
    return any(reference.get("uid") == uid for reference in references)
