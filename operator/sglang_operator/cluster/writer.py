"""Carries out the actions of a plan, in their order; each is refused if what it was decided on has changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sglang_operator.api import Endpoint
from sglang_operator.cluster.api import JSON_PATCH, Api, ApiError
from sglang_operator.cluster.children import (
    apply_over,
    create_own,
    find_own,
    ray_service_of,
    service_of,
    wanted_service,
)
from sglang_operator.cluster.claim import refuse_foreign
from sglang_operator.cluster.compare import covers
from sglang_operator.cluster.in_place import InPlace, cluster_patch, live_ray_service, worker_bounds, written_values
from sglang_operator.cluster.metadata import Owner, is_terminating, labels_of, name_of, selector_of
from sglang_operator.cluster.paths import KINDS, RAY_CLUSTER, RAY_SERVICE, RECORD, SERVICE, Kind
from sglang_operator.cluster.pods import is_worker, waits_for_node
from sglang_operator.cluster.put_back import put_back
from sglang_operator.cluster.records import DRAINING_SINCE, FAILURE, new_record, note_commit, note_failure
from sglang_operator.cluster.refusals import Refusal, StalePassError, attempt, is_outdated, raise_first
from sglang_operator.cluster.selection import moved, read_selection
from sglang_operator.cluster.snapshot import Snapshot
from sglang_operator.lifecycle import plan as do
from sglang_operator.lifecycle.observed import Selection
from sglang_operator.render import names

Object = dict[str, Any]


class Writer:
    """The writes of one pass over one endpoint."""

    def __init__(
        self,
        api: Api,
        owner: Owner,
        snapshot: Snapshot,
        rendered: tuple[Object, ...],
        values: InPlace,
        *,
        apart: Mapping[str, InPlace] | None = None,
    ) -> None:
        """`values` go to every revision but those of `apart`."""
        self._api = api
        self._owner = owner
        self._namespace = owner.key.namespace
        self._snapshot = snapshot
        self._rendered = rendered
        self._values = values
        self._apart = apart or {}
        self._newest = ""  # the revision that this very pass has recorded: it needs no look whether another is newer
        self._written: dict[str, InPlace] = {}  # by this very pass, so that its repair does not undo it
        self._recorded = {stored.name: stored.ray_service for stored in snapshot.records}
        self._commits = {stored.name: stored.commit for stored in snapshot.records}
        self._stored = {stored.name: (stored.uid, stored.resource_version) for stored in snapshot.records}

    async def carry_out(self, actions: tuple[do.Action, ...], endpoint: Endpoint, now: float) -> None:
        """Do one after the other. What is refused ends it, but for the settings of what serves. Raises StalePassError,
        NameTakenError, ApiError."""
        refused: tuple[Refusal, ...] = ()
        for action in actions:
            if not refused or isinstance(action, do.ApplyInPlace):
                refused += await attempt(self._carry_out(action, endpoint, now))
            if any(map(is_outdated, refused)):
                break
        raise_first(refused)

    async def label(self) -> bool:
        """Put back the label by which own objects are listed; whether one was missing. Without it a later pass, or the
        look before a write, does not see them. Raises ApiError."""
        for live in self._snapshot.unlabelled:
            await self._label(KINDS[live["kind"]], live)
        return bool(self._snapshot.unlabelled)

    async def _label(self, kind: Kind, live: Mapping[str, Any]) -> None:
        metadata = {"uid": live["metadata"]["uid"], "labels": {names.ENDPOINT: self._owner.key.name}}
        await self._api.patch(kind.of(self._namespace, name_of(live)), {"metadata": metadata})

    async def _carry_out(self, action: do.Action, endpoint: Endpoint, now: float) -> None:
        match action:
            case do.RecordRevision():
                await self._record(action, endpoint)
            case do.CreateRevision() | do.TryRevision():
                await self._make(action)
            case do.ApplyInPlace():
                values = self._values_of(action.revision).with_floor(action.floor, holding=action.holding)
                await self._apply(action.revision, values.within(action.taken_back))
            case do.SwitchService():
                await self._switch(action, now)
            case do.FreeAccelerators():
                await self._free(action)
            case do.Retire():
                await self._retire(action)
            case do.ForgetRecord():
                uid, version = self._stored.get(action.revision, ("", ""))
                await self._api.delete(RECORD.of(self._namespace, action.revision), uid, version)
            case _:
                await self._note(action, now)

    async def _note(self, action: do.StartDrain | do.CancelDrain | do.RememberFailure, now: float) -> None:
        """What only the record keeps."""
        match action:
            case do.StartDrain():
                await self._annotate(action.revision, {DRAINING_SINCE: f"{now:.3f}"})
            case do.CancelDrain():
                await self._annotate(action.revision, {DRAINING_SINCE: None})
            case do.RememberFailure():
                await self._annotate(action.revision, note_failure(action.failure))

    async def _record(self, action: do.RecordRevision, endpoint: Endpoint) -> None:
        await self._may_record(action)
        if action.revision in self._recorded:
            await self._annotate(action.revision, {FAILURE: None, DRAINING_SINCE: None}, action.number)
        else:
            await self._new_record(action, endpoint)

    async def _may_record(self, action: do.RecordRevision) -> None:
        # The first one of an endpoint was decided on at once, by nothing but what was read: another look is no later.
        is_first = not (self._recorded or self._snapshot.pods)
        if not is_first and await self._newest_number() != action.number - 1:
            raise StalePassError("another revision was recorded since this pass read them")
        if is_first:  # of a later one what serves must not wait: its pods are refused, not its record
            self._refuse_foreign_claim(action.revision)

    async def _new_record(self, action: do.RecordRevision, endpoint: Endpoint) -> None:
        ray_service = ray_service_of(self._rendered)
        record = new_record(self._owner, action.number, endpoint, ray_service)
        try:
            self._keep_version(await self._api.create(RECORD.of(self._namespace), record))
        except ApiError as error:
            if not error.is_conflict:
                raise
            live = await find_own(self._api, self._owner, RECORD, action.revision)
            if live and labels_of(live).get(names.ENDPOINT) != self._owner.key.name:
                await self._label(RECORD, live)  # of long ago: nothing else has led to its name
            raise StalePassError(f"{action.revision} was recorded since this pass read the records") from error
        self._recorded[action.revision] = ray_service
        self._newest = action.revision

    async def _annotate(self, revision: str, notes: Mapping[str, str | None], number: int | None = None) -> None:
        """Only of the record as this pass has read or written it: who recorded it anew has forgotten its failure."""
        uid, version = self._stored.get(revision, ("", ""))
        fence = {"uid": uid, "resourceVersion": version} if version else {}
        body = {"metadata": {"annotations": notes, **fence}, **({} if number is None else {"revision": number})}
        try:
            self._keep_version(await self._api.patch(RECORD.of(self._namespace, revision), body))
        except ApiError as error:
            if version and error.is_absent:
                raise StalePassError(f"the record of {revision} is gone") from error
            raise

    def _keep_version(self, record: Mapping[str, Any]) -> None:
        metadata = record["metadata"]
        self._stored[name_of(record)] = (metadata["uid"], metadata["resourceVersion"])

    async def _newest_number(self) -> int:
        stored = await self._api.list(RECORD.of(self._namespace), selector_of(self._owner.key))
        return max((int(item["revision"]) for item in stored if self._owner.owns(item)), default=0)

    async def _make(self, action: do.CreateRevision | do.TryRevision) -> None:
        if isinstance(action, do.CreateRevision) and action.revision != self._newest:
            await self._check(action.fence)
        self._refuse_foreign_claim(action.revision)
        body = self._ray_service(action.revision, self._values_of(action.revision).with_floor(action.floor))
        strict = not self._has_served(action.revision)
        if isinstance(action, do.TryRevision):
            await self._try(action.revision, body, strict=strict)
        else:
            await create_own(self._api, self._owner, RAY_SERVICE, body, strict=strict)

    async def _try(self, revision: str, body: Object, *, strict: bool) -> None:
        try:
            await self._api.create(RAY_SERVICE.of(self._namespace), body, strict=strict, dry_run=True)
        except ApiError as error:
            if error.is_conflict:
                await find_own(self._api, self._owner, RAY_SERVICE, revision)  # refuses what is somebody else's
            elif not (error.is_untried or error.is_of_quota):  # what serves may be what has used it up
                raise

    def _refuse_foreign_claim(self, revision: str) -> None:
        if not self._has_served(revision):
            refuse_foreign(self._snapshot.claim, self._owner)

    def _has_served(self, revision: str) -> bool:
        """What is wrong with it has not kept clients from their answers, and without it they have none."""
        selection = read_selection(self._snapshot.service)
        return revision in (selection.revision, selection.previous)

    async def _apply(self, revision: str, values: InPlace, uid: str = "") -> None:
        """To what is this endpoint's: the snapshot has no other."""
        live = self._live(revision)
        body = self._ray_service(revision, values)
        body["metadata"]["uid"] = uid or live["metadata"]["uid"]  # never makes one anew
        await put_back(self._api, RAY_SERVICE.of(self._namespace, revision), body)
        self._written[revision] = values

    async def _switch(self, action: do.SwitchService, now: float) -> None:
        await self._check(action.fence)
        selection = Selection(action.revision, action.previous, now)
        body = wanted_service(self._owner, service_of(self._rendered), selection)
        if self._snapshot.service is not None:
            body["metadata"]["resourceVersion"] = action.fence.service_version
            await self._switch_over(self._snapshot.service, body)
        elif await create_own(self._api, self._owner, SERVICE, body):
            raise StalePassError("the Service has come since this pass read it")

    async def _switch_over(self, live: Mapping[str, Any], wanted: Object) -> None:
        """With all else that the spec wants of the Service; or without, where the cluster refuses that. An apply that
        has changed the version before it was refused is a conflict: the next pass then begins without that."""
        try:
            await apply_over(self._api, SERVICE, live, wanted)
        except ApiError as error:
            if error.is_conflict or error.is_passing:
                raise
            await self._api.patch(SERVICE.of(self._namespace, name_of(live)), moved(live, wanted))
            raise

    async def _free(self, action: do.FreeAccelerators) -> None:
        """Bounds of zero, on the RayService first, and by name on the RayCluster: the autoscaler obeys bounds."""
        await self._check(action.fence)
        written = written_values(self._live(action.revision)) or self._values_of(action.revision)
        await self._apply(action.revision, replace(written, released=True), action.uid)

    async def _retire(self, action: do.Retire) -> None:
        await self._check(action.fence)
        await self._api.delete(RAY_SERVICE.of(self._namespace, action.revision), action.uid)

    async def _check(self, fence: do.Fence) -> None:
        """What the plan was decided on still holds."""
        service = await self._api.find(SERVICE.of(self._namespace, self._owner.key.name))
        if service is not None and not self._owner.owns(service):
            service = None  # as the pass saw it
        newest = await self._newest_number()
        if read_selection(service).resource_version != fence.service_version or newest != fence.newest_record:
            raise StalePassError("the Service or the newest record changed since this pass read them")

    def _values_of(self, revision: str) -> InPlace:
        return self._apart.get(revision, self._values)

    def _live(self, revision: str) -> Mapping[str, Any]:
        if (live := self._snapshot.ray_service(revision)) is None:
            raise StalePassError(f"{revision} is gone")
        return live

    def _ray_service(self, revision: str, values: InPlace) -> Object:
        live, commit = self._snapshot.ray_service(revision), self._commits.get(revision, "")
        return live_ray_service(self._owner, self._recorded[revision], values, commit, live)

    async def freeze(self, commits: Mapping[str, str]) -> None:
        """Keep what the branches of revisions have turned out to be. Raises StalePassError, ApiError."""
        for revision, commit in commits.items():
            await self._annotate(revision, note_commit(commit))
            self._commits[revision] = commit

    async def repair(self) -> None:
        """Put back what somebody edited by hand, and bring bounds to RayClusters, which KubeRay does not do. What is
        refused of one object keeps no other one waiting."""
        own = [live for live in self._snapshot.ray_services if name_of(live) in self._recorded]
        repairs = (self._repair(live) for live in own if self._owner.owns(live) and not is_terminating(live))
        raise_first([error for work in repairs for error in await work])

    async def _repair(self, live: Mapping[str, Any]) -> tuple[Refusal, ...]:
        """What was refused of it."""
        revision = name_of(live)
        values = self._written.get(revision) or written_values(live) or self._values_of(revision)
        wanted = self._ray_service(revision, values)
        is_right = revision in self._written or covers(live, wanted)
        refused = () if is_right else await attempt(self._apply(revision, values))
        for cluster in self._snapshot.ray_clusters:
            if labels_of(cluster).get(names.REVISION) == revision and not is_terminating(cluster):
                refused += await attempt(self._bound(cluster, values))
        return refused

    async def _bound(self, cluster: Mapping[str, Any], values: InPlace) -> None:
        revision = labels_of(cluster)[names.REVISION]
        workers = [
            pod
            for pod in self._snapshot.pods
            if is_worker(pod) and labels_of(pod).get(names.REVISION) == revision and not is_terminating(pod)
        ]
        bounds, waiting = worker_bounds(self._recorded[revision], values), sum(map(waits_for_node, workers))
        pods = tuple(map(name_of, workers))
        operations = cluster_patch(cluster, bounds, pods, waiting=waiting, released=values.released)
        if not operations:
            return
        try:
            await self._api.patch(RAY_CLUSTER.of(self._namespace, name_of(cluster)), operations, JSON_PATCH)
        except ApiError as error:
            if error.is_failed_test or error.is_absent:
                raise StalePassError(f"{name_of(cluster)} changed since this pass read it") from error
            raise
