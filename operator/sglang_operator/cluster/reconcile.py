"""One pass over one endpoint: read, decide, write, report. It keeps nothing between passes."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from sglang_operator.api import Endpoint, InvalidEndpoint
from sglang_operator.api.defaults import parse_with_defaults
from sglang_operator.api.errors import FieldError
from sglang_operator.cluster import earlier, findings
from sglang_operator.cluster.api import Api, ApiError
from sglang_operator.cluster.as_it_is import as_it_is
from sglang_operator.cluster.capacity import Nodes, unread
from sglang_operator.cluster.children import Children, ray_service_of
from sglang_operator.cluster.claim import differences
from sglang_operator.cluster.commits import found_commits
from sglang_operator.cluster.discovery import Absences
from sglang_operator.cluster.lost import end_given_up
from sglang_operator.cluster.metadata import Owner, is_terminating
from sglang_operator.cluster.news import news_of, write_news
from sglang_operator.cluster.observe import View, observe
from sglang_operator.cluster.older_crd import Room
from sglang_operator.cluster.pace import Seen, look_again, soonest
from sglang_operator.cluster.paths import ENDPOINT, RAY_SERVICE
from sglang_operator.cluster.probe import Prober
from sglang_operator.cluster.records import NewerRecordError, find_record
from sglang_operator.cluster.refusals import (
    NameTakenError,
    Refusal,
    StalePassError,
    attempt,
    is_invalid,
    is_outdated,
    raise_first,
)
from sglang_operator.cluster.snapshot import Snapshot, take_snapshot
from sglang_operator.cluster.status import Facts, status_of
from sglang_operator.cluster.told import told_of, values_of
from sglang_operator.cluster.types import Key, Report, Result
from sglang_operator.cluster.writer import Writer
from sglang_operator.lifecycle import decide, wanted_of
from sglang_operator.lifecycle.plan import CreateRevision, Plan, RecordRevision
from sglang_operator.lifecycle.reasons import Condition, ConditionType
from sglang_operator.lifecycle.wanted import Wanted
from sglang_operator.render import Platform, render_endpoint

log = logging.getLogger(__name__)
Object = dict[str, Any]

AGAIN_SECONDS: Final = 0.2  # after writes: the next step is most often ready
REMEMBERED: Final = 512  # specs: about 50 kB each
REFUSED_SECONDS: Final = 30.0  # after the cluster refused what only a person can make possible


def _unheard(_key: Key, _status: Mapping[str, Any] | None) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True)
class Understood:
    """A valid spec, and what it is rendered to."""

    endpoint: Endpoint
    rendered: tuple[Object, ...]


@dataclass(frozen=True)
class Pass:
    """What one pass has read and decided."""

    snapshot: Snapshot
    endpoint: Endpoint
    wanted: Wanted
    view: View
    plan: Plan
    rendered: tuple[Object, ...]
    now: float
    told: Mapping[str, Endpoint] = field(default_factory=dict)
    """The endpoint as revisions are told of it in place that are not told all, by their names."""
    lacking: tuple[FieldError, ...] = ()
    """What no node has enough of, or that this is unknown, while another revision than the wanted one serves."""

    @property
    def owner(self) -> Owner:
        """Of everything that it writes."""
        return Owner(Key(self.endpoint.namespace, self.endpoint.name), self.endpoint.uid)

    @property
    def is_beginning(self) -> bool:
        """It makes the first pods, and nothing of what is beside them can be there yet."""
        makes_pods = any(isinstance(action, CreateRevision) for action in self.plan.actions)
        return makes_pods and self.snapshot.service is None and not self.snapshot.ray_services

    def conditions(self, trouble: Condition | None) -> list[Condition]:
        """What it found; what is in the way says more than how far the rollout is."""
        wanted = next((stored for stored in self.snapshot.records if stored.name == self.wanted.revision), None)
        serves = self.view.observed.service.revision == self.wanted.revision
        ray_service = ray_service_of(self.rendered)
        found = (
            findings.accepted(self.snapshot.absent, self.endpoint.spec.api.route is not None, self._warnings),
            *earlier.told(self.snapshot, self.plan.conditions, unread=self.view.is_unread(self.wanted.revision)),
            findings.update_available(wanted, ray_service, serves=serves),
        )
        return [trouble if trouble and one.type is ConditionType.PROGRESSING else one for one in found]

    @property
    def _warnings(self) -> tuple[FieldError, ...]:
        """What the user should know of a valid spec."""
        claimed = differences(self.snapshot.claim, self.endpoint.spec.model.cache, self.owner)
        return (*self.endpoint.warnings, *claimed, *self.lacking)

    @property
    def status(self) -> Object:
        """All of status but conditions."""
        records, wanted = self.snapshot.records, self.wanted.revision
        before = self.snapshot.endpoint.get("status") or {}
        return status_of(Facts(self.endpoint, self.view, records, wanted, before, self.now, self.told))


@dataclass(frozen=True)
class Reconciler:
    """What passes need. `clock` gives Unix seconds."""

    api: Api
    prober: Prober
    clock: Callable[[], float]
    platform: Platform = field(default_factory=Platform)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    report: Report = _unheard
    nodes: Nodes | None = None
    """None: this operator has no right to look at them."""
    understood: OrderedDict[tuple[str, int], Understood] = field(default_factory=OrderedDict)
    """What specs mean, while they are as they were: reading and rendering one takes more than the rest of a pass."""
    absences: Absences = field(default_factory=Absences)
    room: Room = field(default_factory=Room)

    async def reconcile(self, key: Key) -> Result:
        """Bring `key` one step nearer to its spec. Raises ApiError if the cluster cannot be asked."""
        live = await self.api.find(ENDPOINT.of(*key))
        if live is None or is_terminating(live):  # the garbage collector removes what it owned
            self.report(key, None)
            return Result()
        try:
            understood = self._understand(live)
        except InvalidEndpoint as error:
            return await self._hold_on(key, live, error)
        try:
            this = await self._read(key, live, understood)
        except (NewerRecordError, ApiError) as error:
            return await self._stand_still(key, live, error)
        try:
            trouble, again = await self._write(this)
        except ApiError as error:  # what was read is true all the same; users and later passes go by status
            found = findings.blocked(error) if error.is_of_webhook else None  # anything else is gone in seconds
            with suppress(ApiError):
                await self._write_status(key, live, this.status, this.conditions(found))
            raise
        await self._write_status(key, live, this.status, this.conditions(trouble))
        limit = this.plan.wait.at - this.now if this.plan.wait else None
        serving = this.told.get(this.view.observed.service.revision, this.endpoint)
        seen = Seen(serving, this.wanted, this.view, this.now)
        return Result(soonest(again, limit), look_again(seen))

    async def _hold_on(self, key: Key, live: Object, error: InvalidEndpoint) -> Result:
        """Say what is wrong with the spec, and how what serves is all the same: nothing is changed."""
        numbers: Object = {}
        found: tuple[Condition, ...] = ()
        again: float | None = REFUSED_SECONDS
        try:
            numbers, found = await as_it_is(self.api, self.prober, key, live, self.clock())
            again = REFUSED_SECONDS if found else None  # where nothing serves, nothing changes but the spec
        except (NewerRecordError, ApiError) as obstacle:
            log.warning("%s: %s", key, obstacle)
        await self._write_status(key, live, numbers, [findings.rejected(error), *found], partly=True)
        return Result(again)

    async def _stand_still(self, key: Key, live: Object, error: NewerRecordError | ApiError) -> Result:
        """Say what cannot be read, and change nothing. Raises what may go by itself."""
        if isinstance(error, ApiError) and not error.is_forbidden:
            raise error
        found = findings.blocked(error)
        log.warning("%s", found.message)
        await self._write_status(key, live, {}, [found], partly=True)
        return Result(REFUSED_SECONDS)

    def _understand(self, live: Object) -> Understood:
        version = (live["metadata"]["uid"], live["metadata"]["generation"])
        found = self.understood.pop(version, None)
        if found is None:
            endpoint = parse_with_defaults(live, self.defaults)
            found = Understood(endpoint, render_endpoint(endpoint, self.platform))
        self.understood[version] = found  # as the one used last
        while len(self.understood) > REMEMBERED:
            self.understood.popitem(last=False)
        return found

    async def _read(self, key: Key, live: Object, understood: Understood) -> Pass:
        endpoint = understood.endpoint
        snapshot = await take_snapshot(self.api, key, live, understood.rendered)
        self.absences.tell(snapshot.absent, findings.remedies(wants_route=endpoint.spec.api.route is not None))
        recorded = find_record(endpoint, snapshot.records)
        name = recorded.name if recorded else ""
        told = told_of(endpoint, snapshot, name)
        wanted = wanted_of(endpoint, name, told)
        now = self.clock()
        view = await observe(self.api, self.prober, snapshot, wanted.revision, now, paused=endpoint.spec.paused)
        plan = decide(wanted, view.observed, now)
        is_coming = not wanted.stopped and view.observed.service.revision != wanted.revision
        lacking = await self._advise(ray_service_of(understood.rendered), now) if is_coming else ()
        return Pass(snapshot, endpoint, wanted, view, plan, understood.rendered, now, told, lacking)

    async def _advise(self, ray_service: Object, now: float) -> tuple[FieldError, ...]:
        return await self.nodes.advise(ray_service, now) if self.nodes else unread(ray_service)

    async def _write(self, this: Pass) -> tuple[Condition | None, float | None]:
        """What is in the way, and after how many seconds to come back."""
        if this.endpoint.spec.paused:
            return None, None
        if RAY_SERVICE.name in this.snapshot.absent:
            return findings.kuberay_absent(), REFUSED_SECONDS
        try:
            return None, await self._carry_out(this)
        except StalePassError as error:
            log.info("%s: deciding anew", error)
            return None, AGAIN_SECONDS
        except (NameTakenError, ApiError) as error:
            if isinstance(error, ApiError) and error.is_passing:
                raise
            found = findings.blocked(error)
            log.warning("%s", found.message)
            return found, REFUSED_SECONDS

    async def _carry_out(self, this: Pass) -> float | None:
        """The plan, or if there is nothing to plan, everything else that shall be as it was written."""
        values, apart = values_of(this.endpoint, this.wanted, this.told)
        writer = Writer(self.api, this.owner, this.snapshot, this.rendered, values, apart=apart)
        if await writer.label():
            return AGAIN_SECONDS
        if not this.plan.actions:
            return await self._keep(this, writer)
        log.info("%s", ", ".join(map(_name, this.plan.actions)))
        refused = await self._act(this, writer)
        if refused and not any(map(is_outdated, refused)):  # what serves must not wait for what cannot come
            refused += await attempt(self._keep(this, writer))
        raise_first(refused)
        return AGAIN_SECONDS

    async def _act(self, this: Pass, writer: Writer) -> tuple[Refusal, ...]:
        """What was refused of the plan. Between the record of the first pods and these comes what protects them."""
        actions = this.plan.actions
        if not this.is_beginning:
            return await attempt(writer.carry_out(actions, this.endpoint, self.clock()))
        records = tuple(action for action in actions if isinstance(action, RecordRevision))
        if refused := await attempt(writer.carry_out(records, this.endpoint, self.clock())):
            return refused
        unprotected = await attempt(self._children(this).protect(this.rendered))
        if any(map(is_invalid, unprotected)):  # by what the spec says: nobody shall reach its pods until that is mended
            return unprotected
        # Any other refusal the next pass meets again, and tells.
        return await attempt(writer.carry_out(actions[len(records) :], this.endpoint, self.clock()))

    async def _keep(self, this: Pass, writer: Writer) -> float | None:
        """What is there stays as it was written. What is refused of the one part keeps the other from nothing."""
        children = self._children(this)
        refused = await attempt(writer.freeze(found_commits(this.snapshot, this.view)))
        refused += await attempt(writer.repair())
        if not this.view.observed.kuberay_silent:  # nobody would make others
            refused += await attempt(end_given_up(self.api, this.snapshot.pods, this.now))
        raise_first([*refused, *await attempt(children.sync(this.rendered))])
        return AGAIN_SECONDS if children.changed_claim else None

    def _children(self, this: Pass) -> Children:
        return Children(self.api, this.owner, this.snapshot, this.endpoint.spec.model.cache, this.now)

    async def _write_status(
        self, key: Key, live: Object, said: Object, found: Sequence[Condition], *, partly: bool = False
    ) -> None:
        """Apply it if it differs, and tell of transitions. `partly`: the rest stays as it is."""
        news = news_of(live, said, found, self.clock(), partly=partly)
        self.report(key, news.status)
        await write_news(self.api, self.room, news)


def _name(action: object) -> str:
    return f"{type(action).__name__} {getattr(action, 'revision', '')}"
