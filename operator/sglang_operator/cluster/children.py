"""What an endpoint has beside its revisions: Service, NetworkPolicy, budget, Ingress, HTTPRoute, model cache.

Put back when somebody edits or deletes it, and removed when the spec does not ask for it any more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, Final

from sglang_operator.api.spec_model import Cache
from sglang_operator.cluster.api import Api, ApiError
from sglang_operator.cluster.budget import live_budget
from sglang_operator.cluster.claim import CacheClaim, refuse_foreign
from sglang_operator.cluster.compare import covers
from sglang_operator.cluster.managers import applied_only
from sglang_operator.cluster.metadata import Owner, is_terminating, name_of, notes_of, with_owner
from sglang_operator.cluster.paths import BUDGET, CLAIM, KINDS, POLICY, RAY_SERVICE, SERVICE, Kind
from sglang_operator.cluster.put_back import put_back
from sglang_operator.cluster.refusals import NameTakenError, StalePassError, attempt, raise_first
from sglang_operator.cluster.selection import notes_for, read_selection, selector_for
from sglang_operator.cluster.snapshot import PRUNED, Snapshot, with_others
from sglang_operator.lifecycle.observed import Selection
from sglang_operator.render.revision import short_hash

APPLIED: Final = "serve.sglang.io/applied"  # digest of what was last applied: a field that is gone from it has to go
Object = dict[str, Any]


async def create_own(api: Api, owner: Owner, kind: Kind, wanted: Object, *, strict: bool = False) -> Object | None:
    """POST it, and never apply: the name may be somebody else's, which raises NameTakenError. What is there if it is
    this endpoint's after all, and was read too early or has lost its label. `strict`: see Api.create."""
    try:
        await api.create(kind.of(owner.key.namespace), wanted, strict=strict)
    except ApiError as error:
        if not error.is_conflict:
            raise
        return await find_own(api, owner, kind, name_of(wanted))
    return None


async def find_own(api: Api, owner: Owner, kind: Kind, name: str) -> Object | None:
    """What has this name, if anything has. Raises NameTakenError if it is somebody else's."""
    live = await api.find(kind.of(owner.key.namespace, name))
    if live is not None and not owner.owns(live):
        raise NameTakenError(kind.name, name)
    return live


async def apply_over(api: Api, kind: Kind, live: Mapping[str, Any], wanted: Object) -> None:
    """Apply it to what is there, and only to that. Fields that are gone from `wanted` go."""
    path, metadata = kind.of(live["metadata"]["namespace"], name_of(live)), {"uid": live["metadata"]["uid"]}
    if notes_of(live).get(APPLIED) != notes_of(wanted)[APPLIED] and (managers := applied_only(live)):
        version = live["metadata"]["resourceVersion"]
        changed = await api.patch(path, {"metadata": {"resourceVersion": version, "managedFields": managers}})
        live = {"metadata": changed["metadata"]}
    if "resourceVersion" in wanted["metadata"]:
        metadata["resourceVersion"] = live["metadata"]["resourceVersion"]
    await put_back(api, path, {**wanted, "metadata": {**wanted["metadata"], **metadata}})


def wanted_service(owner: Owner, rendered: Mapping[str, Any], selection: Selection) -> Object:
    """The endpoint's Service, with what it selects and the memory of that."""
    spec = {**rendered["spec"], "selector": selector_for(owner.key.name, selection.revision)}
    made = with_owner(owner, {**rendered, "spec": spec}, notes_for(selection))
    lasting = {**rendered["spec"], "selector": selector_for(owner.key.name, "")}  # a rollout takes no field away
    return _with_digest(made, [{**rendered, "spec": lasting}])


def service_of(rendered: tuple[Object, ...]) -> Object:
    """The rendered Service."""
    return _one(rendered, SERVICE)


def ray_service_of(rendered: tuple[Object, ...]) -> Object:
    """The rendered RayService."""
    return _one(rendered, RAY_SERVICE)


def _one(rendered: tuple[Object, ...], kind: Kind) -> Object:
    return next(item for item in rendered if item["kind"] == kind.name)


class Children:
    """Brings the objects of one endpoint to the cluster."""

    def __init__(self, api: Api, owner: Owner, snapshot: Snapshot, cache: Cache | None, now: float) -> None:
        self._api = api
        self._owner = owner
        self._snapshot = snapshot
        self._cache = cache
        self._now = now
        self.changed_claim = False  # it is worth another look: what the cluster said to it is noted on it

    async def sync(self, rendered: tuple[Object, ...]) -> None:
        """Write what differs and remove what is not wanted. Raises NameTakenError and ApiError after all else is done,
        or an ApiError that all else would meet as well."""
        self._snapshot = await with_others(self._api, self._owner.key, self._snapshot)
        ways = {SERVICE.name: self._sync_service, CLAIM.name: self._ensure_claim}
        items = [item for item in rendered if item["kind"] != RAY_SERVICE.name]
        writes = (ways.get(item["kind"], self._sync)(item) for item in items)
        ends = (self._end(kind, live) for kind, live in self._unwanted(rendered))
        raise_first([error for work in chain(writes, ends) for error in await attempt(work)])

    async def protect(self, rendered: tuple[Object, ...]) -> None:
        """Make the NetworkPolicy alone, before there are pods that it keeps others from. Raises NameTakenError and
        ApiError."""
        for item in rendered:
            if item["kind"] == POLICY.name:
                await self._sync(item)

    async def _sync_service(self, rendered: Object) -> None:
        live = self._snapshot.service
        wanted = wanted_service(self._owner, rendered, read_selection(live))
        if live is not None:  # a pass that is late must not undo a switch that it has not seen
            wanted["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"]
            await self._write(SERVICE.name, live, wanted)
        elif await create_own(self._api, self._owner, SERVICE, wanted):
            raise StalePassError("the Service has come since this pass read it")  # by this very pass, it may be

    async def _sync(self, rendered: Object) -> None:
        if rendered["kind"] in self._snapshot.absent:
            return  # a condition says so
        targeted = rendered
        if rendered["kind"] == BUDGET.name:
            revision = read_selection(self._snapshot.service).revision
            targeted = live_budget(rendered, revision, self._snapshot.pods)
        live = self._snapshot.of(rendered["kind"], name_of(rendered))
        await self._write(rendered["kind"], live, _with_digest(with_owner(self._owner, targeted), [targeted]))

    async def _write(self, kind: str, live: Mapping[str, Any] | None, wanted: Object) -> None:
        if live is not None and (is_terminating(live) or covers(live, wanted)):
            return
        live = live or await create_own(self._api, self._owner, KINDS[kind], wanted)
        if live is not None:
            await apply_over(self._api, KINDS[kind], live, wanted)

    async def _ensure_claim(self, rendered: Object) -> None:
        if self._cache:
            refuse_foreign(self._snapshot.claim, self._owner)
            keeper, live = CacheClaim(self._api, self._owner), self._snapshot.claim
            self.changed_claim = await keeper.keep(live, rendered, self._cache, self._now)

    async def _end(self, kind: str, live: Mapping[str, Any]) -> None:
        await self._api.delete(KINDS[kind].of(self._owner.key.namespace, name_of(live)), live["metadata"]["uid"])

    def _unwanted(self, rendered: tuple[Object, ...]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        wanted = {(item["kind"], name_of(item)) for item in rendered}
        for kind, live in self._made():
            if (kind, name_of(live)) not in wanted and not is_terminating(live):
                yield kind, live

    def _made(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for kind in PRUNED:
            for live in self._snapshot.others.get(kind.name, ()):
                yield kind.name, live


def _with_digest(made: Object, of: list[Any]) -> Object:
    notes = {**notes_of(made), APPLIED: short_hash(of)}
    return {**made, "metadata": {**made["metadata"], "annotations": notes}}
