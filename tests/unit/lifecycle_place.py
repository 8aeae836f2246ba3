"""What there is of an endpoint in the tests of `decide`, how it goes on by itself, and what a pass reads of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from sglang_operator.lifecycle.observed import (
    NOTHING,
    Failure,
    Front,
    Live,
    Observed,
    Presence,
    Probe,
    Record,
    Revision,
    Selection,
    Unschedulable,
)
from sglang_operator.lifecycle.reasons import ConditionType, Status
from sglang_operator.lifecycle.wanted import Wanted

LOAD_SECONDS = 40.0
GOING_SECONDS = 20.0


@dataclass
class RayService:
    uid: str
    since: float
    going_since: float | None = None
    scheduled_at: float | None = None
    dead_until: float = 0.0
    released: bool = False
    settings: str = ""
    floor: int = 0
    holds: bool = False  # as last written
    holding: bool = False
    target: int = 1
    slept: bool = False  # and has had no replica since
    quiet_since: float | None = None
    was_ready: bool = False  # so streams may be on its pods
    unready_since: float | None = None
    had_traffic: bool = False
    answered_since: float | None = None  # as its replicas tell; they forget it with their engine


@dataclass
class Place:
    """Records, RayServices, pods and one Service, with faults to order."""

    wanted: Wanted
    now: float = 1000.0
    records: dict[str, Record] = field(default_factory=dict)
    live: dict[str, RayService] = field(default_factory=dict)
    service: Selection = NOTHING
    capacity: int = 2  # revisions that have nodes at one time
    broken: set[str] = field(default_factory=set)
    nowhere: set[str] = field(default_factory=set)  # no node is like what it asks for
    fragile: set[str] = field(default_factory=set)  # the first request ends the engine, after its answer
    stuck: set[str] = field(default_factory=set)  # a client never leaves them
    unreachable: bool = False
    silent: bool = False
    paused: bool = False
    demand: int = 1  # replicas that the requests need, where their number follows them
    missed: dict[str, str] = field(default_factory=dict)  # how the next looks fail, though all is well: see _look_at
    missed_since: dict[str, float] = field(default_factory=dict)
    said: dict[ConditionType, tuple[Status, float]] = field(default_factory=dict)  # status, and since when
    said_of: str = ""  # the revision that was selected then
    counting: tuple[str, float | None] = ("", None)  # of status.updating: what was wanted, since when its time counts
    excused_at: dict[str, float] = field(default_factory=dict)  # when a pass last told that it does not
    asleep: bool = False  # the pass under way decided on old facts
    writes: int = 0
    versions: int = 0

    # What is there, and how it goes on ---------------------------------------------------------------------------
    def ready(self, name: str) -> bool:
        one = self.live.get(name)
        return bool(
            one
            and one.target
            and one.going_since is None
            and not one.released
            and one.scheduled_at is not None
            and name not in self.broken
            and self.now >= one.scheduled_at + LOAD_SECONDS
            and self.now >= one.dead_until
        )

    def sleeps(self, name: str) -> bool:
        """No replica, and a head that holds requests."""
        one = self.live.get(name)
        return bool(one and one.going_since is None and not one.released and not one.target)

    def tick(self, seconds: float) -> None:
        for _ in range(int(seconds // 10) or 1):
            self.now += min(seconds, 10)
            self._end_what_goes()
            self._follow_requests()
            self._schedule()
            self._let_clients_go()
            self._follow_pods()

    def _end_what_goes(self) -> None:
        for name, one in list(self.live.items()):
            if one.going_since is not None and self.now >= one.going_since + GOING_SECONDS:
                del self.live[name]

    def _follow_requests(self) -> None:
        """As Ray Serve: what is asked of the selected revision, never less than it was told."""
        bounds = self.wanted.replicas
        if bounds.least == bounds.greatest:
            for one in self.live.values():
                one.target = one.target or bounds.greatest
            return
        for name, one in self.live.items():
            asked = self.demand if name == self.service.revision else 0
            before, one.target = one.target, min(max(bounds.least, one.floor, asked), bounds.greatest)
            if not before or not one.target:
                one.scheduled_at = None
            one.slept = not one.target or (one.slept and not self.ready(name))

    def _schedule(self) -> None:
        waiting = [one for name, one in self.live.items() if one.target and name not in self.nowhere]
        for one in sorted(waiting, key=lambda one: one.since):
            held = sum(other.scheduled_at is not None and not other.released for other in self.live.values())
            if not self.silent and one.scheduled_at is None and one.going_since is None and held < self.capacity:
                one.scheduled_at = self.now

    def _let_clients_go(self) -> None:
        for name, one in self.live.items():
            told = name not in self.records or self.records[name].draining_since is not None
            leaves = self.service.revision != name and told
            quiet = leaves and name not in self.stuck
            one.quiet_since = (one.quiet_since or self.now) if quiet else None

    def _follow_pods(self) -> None:
        for name, one in self.live.items():
            if one.scheduled_at is None or one.released:
                one.was_ready = one.had_traffic = False  # what it had is gone with its replicas
            one.had_traffic = one.had_traffic or name == self.service.revision
            if self.ready(name):
                one.was_ready, one.unready_since = True, None
            else:
                one.unready_since, one.answered_since = one.unready_since or self.now, None

    # What a pass reads ---------------------------------------------------------------------------------------------
    def observe(self) -> Observed:
        self._follow_pods()
        names = sorted(set(self.records) | set(self.live))
        revisions = tuple(Revision(name, self.records.get(name), self._look_at(name)) for name in names)
        self._end_what_was_asked()
        ready, since = self.said.get(ConditionType.READY, (Status.TRUE, 0.0))
        is_told = ready is Status.FALSE and self.said_of == self.service.revision
        going, going_since = self.said.get(ConditionType.PROGRESSING, (Status.TRUE, 0.0))
        return Observed(
            revisions,
            self.service,
            unanswered_since=max(since, self.service.switched_at) if is_told else None,
            kuberay_silent=self.silent,
            paused=self.paused,
            resumed_at=going_since if going is Status.TRUE else self.now,
            counts_from=self._counts_from(),
        )

    def _counts_from(self) -> float:
        revision, since = self.counting
        return self.now if revision != self.wanted.revision or since is None else since

    def _end_what_was_asked(self) -> None:
        for name in self.fragile & set(self.live):
            if self.live[name].answered_since is not None:
                self.live[name].dead_until = self.now + LOAD_SECONDS

    def _look_at(self, name: str) -> Live:
        """What is there, or what a look that fails makes of it: a time-out, one failed check of the kubelet, or an
        answer of some replicas only."""
        live = self._live(name)
        how = self.missed.get(name)
        if how is None or not live.front_pods or not live.ready_replicas:
            self.missed_since.pop(name, None)
            return live
        self.missed_since.setdefault(name, self.now)
        if how == "partial" and live.ready_replicas > 1:
            return replace(
                live,
                ready_replicas=1,
                answered=min(live.answered, 1),
                answered_since=live.answered_since[:1],
                front=None,
            )
        unready = {"probe": Probe.NOT_ASKED, "unready_since": self.now} if how == "flip" else {"probe": Probe.WRONG}
        return replace(live, ready_replicas=0, answered=0, front=None, **unready)

    def _live(self, name: str) -> Live:
        one = self.live.get(name)
        if one is None:
            return Live()
        ready = one.target if self.ready(name) else 0
        worker_pods = 0 if one.released else one.target
        probe = (Probe.UNREACHABLE if self.unreachable else Probe.ANSWERED) if ready else Probe.NOT_ASKED
        if probe is Probe.ANSWERED and one.answered_since is None:
            one.answered_since = self.now
        crashed = one.scheduled_at is not None and name in self.broken and one.going_since is None
        return Live(
            presence=Presence.PRESENT if one.going_since is None else Presence.TERMINATING,
            uid=one.uid,
            clusters=1,
            pods=1 + worker_pods,
            worker_pods=worker_pods,
            released=one.released,
            placed=worker_pods if one.scheduled_at is not None else 0,
            ready_replicas=ready,
            target_replicas=one.target,
            holds=one.holds and one.going_since is None,
            may_hold=one.holds and one.going_since is None,
            waking_since=one.scheduled_at if worker_pods and not ready and one.slept else None,
            probe=probe,
            answered=ready if probe is Probe.ANSWERED else 0,
            answered_since=(one.answered_since or 0.0,) * ready if probe is Probe.ANSWERED else (),
            progress=one.since if one.scheduled_at is None else one.scheduled_at,
            unschedulable=Unschedulable(
                one.since, "no node is like that" if name in self.nowhere else "no node is free"
            )
            if worker_pods and one.scheduled_at is None
            else None,
            failure=Failure("EngineFailed", "unknown argument", self.now, ("Traceback",)) if crashed else None,
            front_pods=worker_pods if one.was_ready else 0,
            unready_since=one.unready_since if one.was_ready and worker_pods else None,
            front=Front(int(name in self.stuck), one.quiet_since) if ready or one.holds else None,
            settings=one.settings,
            floor=one.floor,
            holding=one.holding,
        )
