"""The only reads of a pass: everything that the cluster holds of one endpoint, in one value."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from sglang_operator.cluster.api import Api, ApiError
from sglang_operator.cluster.metadata import is_owned, labels_of, name_of, selector_of
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
from sglang_operator.cluster.pods import is_ray
from sglang_operator.cluster.records import StoredRevision, read_record
from sglang_operator.cluster.selection import read_selection
from sglang_operator.cluster.types import Key
from sglang_operator.render import names

Object = Mapping[str, Any]
Lists = dict[str, tuple[Object, ...] | None]
"""By name of the kind; None: the cluster does not have it."""
# What is made beside the revisions and goes when the spec does not ask for it any more.
PRUNED: Final = (BUDGET, INGRESS, POLICY, ROUTE)
TOLD: Final = (ROUTE,)  # of which a condition says that the cluster does not have them


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
    """The kinds in PRUNED, by name of the kind: all of them `with_others`, else at most those that status tells of."""
    unlabelled: tuple[Object, ...] = ()
    """Records and RayServices that have lost the label by which they are listed. They are among the others, too."""
    absent: frozenset[str] = frozenset()
    """Names of optional kinds that the cluster does not have."""

    @property
    def newest(self) -> StoredRevision | None:
        """The record of what was wanted last."""
        return max(self.records, key=lambda stored: stored.record.number, default=None)

    def ray_service(self, name: str) -> Object | None:
        """That of a revision."""
        return next((item for item in self.ray_services if name_of(item) == name), None)

    def of(self, kind: str, name: str) -> Object | None:
        """One of `others`."""
        return next((item for item in self.others.get(kind, ()) if item["metadata"]["name"] == name), None)


async def take_snapshot(api: Api, key: Key, endpoint: Object, rendered: Sequence[Object] = ()) -> Snapshot:
    """Read at once what decisions need: a handful of lists by label. Of `rendered` it takes names. Raises ApiError."""
    stored, claim, lists = await asyncio.gather(
        api.list(RECORD.of(key.namespace), selector_of(key)),
        _find_claim(api, key, rendered),
        # Also without a record: of an endpoint that was deleted and made again, pods of the same names may still drain.
        _lists(api, key, (RAY_SERVICE, POD, *(kind for kind in TOLD if _of_kind(rendered, kind)))),
    )
    # Where all else is gone only one with Redis may be left: KubeRay ends its pods first, and then empties Redis.
    is_begun = stored or lists[RAY_SERVICE.name] or lists[POD.name] or _has_redis(endpoint, rendered)
    # Of an endpoint that begins nothing leads to a RayCluster, and its Service selects nothing that it has.
    service, more = await _of_begun(api, key) if is_begun else (None, {})
    uid = endpoint["metadata"]["uid"]
    first = Snapshot(
        endpoint=endpoint,
        records=tuple(read_record(item) for item in stored if is_owned(item, uid)),
        service=service if service and is_owned(service, uid) else None,
        claim=claim,
    )
    lists |= more
    return await _with_unlabelled(api, key, _with_lists(first, lists))


def _has_redis(endpoint: Object, rendered: Sequence[Object]) -> bool:
    """By its spec, or by the platform's defaults, which are only in what was rendered."""
    services = _of_kind(rendered, RAY_SERVICE)
    told = (service["spec"]["rayClusterConfig"].get("gcsFaultToleranceOptions") for service in services)
    return bool(endpoint["spec"].get("highAvailability")) or any(told)


async def _of_begun(api: Api, key: Key) -> tuple[Object | None, Lists]:
    return await asyncio.gather(api.find(SERVICE.of(key.namespace, key.name)), _lists(api, key, (RAY_CLUSTER,)))


async def with_others(api: Api, key: Key, snapshot: Snapshot) -> Snapshot:
    """Read what nothing but a comparison with the rendered objects needs. Raises ApiError."""
    known, uid = {*snapshot.others, *snapshot.absent}, snapshot.endpoint["metadata"]["uid"]
    lists = await _lists(api, key, [kind for kind in PRUNED if kind.name not in known])
    others = {**snapshot.others, **_others(lists, uid)}
    return replace(snapshot, others=others, absent=snapshot.absent | _absent(lists))


def _with_lists(snapshot: Snapshot, lists: Lists) -> Snapshot:
    uid = snapshot.endpoint["metadata"]["uid"]
    services, clusters = lists[RAY_SERVICE.name] or (), lists.get(RAY_CLUSTER.name) or ()
    # KubeRay copies labels from a RayService to what it makes of it.
    own_clusters = _not_of(clusters, [item for item in services if not is_owned(item, uid)])
    strange = [item for item in clusters if item not in own_clusters]
    return replace(
        snapshot,
        ray_services=_own(services, uid),
        ray_clusters=own_clusters,
        pods=tuple(pod for pod in _not_of(lists[POD.name] or (), strange) if not _is_copy(pod)),
        others=_others(lists, uid),
        absent=_absent(lists),
    )


def _is_copy(pod: Object) -> bool:
    """It has the labels of a head or worker and another controller than a RayCluster: somebody's Job has copied them.
    One without a controller may have lost it (`--cascade=orphan`)."""
    references = pod["metadata"].get("ownerReferences") or ()
    kinds = {one.get("kind") for one in references if one.get("controller")}
    return is_ray(pod) and bool(kinds) and RAY_CLUSTER.name not in kinds


def _others(lists: Lists, uid: str) -> dict[str, tuple[Object, ...]]:
    return {kind.name: _own(items, uid) for kind in PRUNED if (items := lists.get(kind.name)) is not None}


def _absent(lists: Lists) -> frozenset[str]:
    return frozenset(kind for kind, items in lists.items() if items is None)


async def _with_unlabelled(api: Api, key: Key, snapshot: Snapshot) -> Snapshot:
    """Look by name for what must be there and was not listed. There is no such name but while revisions come or go."""
    newest = snapshot.newest
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
    return [item for item in found if item is not None and _is_unlabelled(item, key) and is_owned(item, uid)]


def _is_unlabelled(item: Object, key: Key) -> bool:
    """What has its label came after the list was made."""
    return labels_of(item).get(names.ENDPOINT) != key.name


async def _find_claim(api: Api, key: Key, rendered: Sequence[Object]) -> Object | None:
    claims = _of_kind(rendered, CLAIM)
    return await api.find(CLAIM.of(key.namespace, name_of(claims[0]))) if claims else None


def _of_kind(rendered: Sequence[Object], kind: Kind) -> list[Object]:
    return [item for item in rendered if item["kind"] == kind.name]


def _own(items: Sequence[Object], uid: str) -> tuple[Object, ...]:
    return tuple(item for item in items if is_owned(item, uid))


def _not_of(items: tuple[Object, ...], owners: Sequence[Object]) -> tuple[Object, ...]:
    """Those that none of `owners` owns."""
    uids = [owner["metadata"]["uid"] for owner in owners]
    return tuple(item for item in items if not any(is_owned(item, uid) for uid in uids))


async def _lists(api: Api, key: Key, kinds: Sequence[Kind]) -> Lists:
    found = await asyncio.gather(*(_list(api, kind, key) for kind in kinds))
    return {kind.name: items for kind, items in zip(kinds, found, strict=True)}


async def _list(api: Api, kind: Kind, key: Key) -> tuple[Object, ...] | None:
    """None if the cluster does not have this kind."""
    try:
        items = await api.list(kind.of(key.namespace), selector_of(key))
        # The items of a list do not say what they are.
        return tuple({**item, "apiVersion": kind.api_version, "kind": kind.name} for item in items)
    except ApiError as error:
        if error.is_absent and kind.is_optional:
            return None
        raise
