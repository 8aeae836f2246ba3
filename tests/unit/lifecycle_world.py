"""A small world for the tests of `decide`: records, RayServices, pods and one Service, with faults to order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from sglang_operator.lifecycle.decide import decide
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
from sglang_operator.lifecycle.plan import (
    Action,
    ApplyInPlace,
    CancelDrain,
    CreateRevision,
    Fence,
    ForgetRecord,
    FreeAccelerators,
    Plan,
    RecordRevision,
    RememberFailure,
    Retire,
    StartDrain,
    SwitchService,
)
from sglang_operator.lifecycle.reasons import ConditionType, Reason, Status
from sglang_operator.lifecycle.scene import LOST_SECONDS
from sglang_operator.lifecycle.wanted import Strategy, UpgradePolicy, Wanted, WhenNoCapacity

LOAD_SECONDS = 40.0
GOING_SECONDS = 20.0


class RefusedError(Exception):
    """The API server, or the fence before the write, refused it."""


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
    target: int = 1
    slept: bool = False  # and has had no replica since
    quiet_since: float | None = None
    was_ready: bool = False  # so streams may be on its pods
    unready_since: float | None = None
    had_traffic: bool = False


@dataclass
class World:
    wanted: Wanted
    now: float = 1000.0
    records: dict[str, Record] = field(default_factory=dict)
    live: dict[str, RayService] = field(default_factory=dict)
    service: Selection = NOTHING
    capacity: int = 2  # revisions that have nodes at one time
    broken: set[str] = field(default_factory=set)
    stuck: set[str] = field(default_factory=set)  # a client never leaves them
    unreachable: bool = False
    silent: bool = False
    paused: bool = False
    demand: int = 1  # replicas that the requests need, where their number follows them
    missed: dict[str, str] = field(default_factory=dict)  # how the next looks fail, though all is well: see _look_at
    missed_since: dict[str, float] = field(default_factory=dict)
    said: dict[ConditionType, tuple[Status, float]] = field(default_factory=dict)  # status, and since when
    said_of: str = ""  # the revision that was selected then
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
            return
        for name, one in self.live.items():
            asked = self.demand if name == self.service.revision else 0
            before, one.target = one.target, min(max(bounds.least, one.floor, asked), bounds.greatest)
            if not before or not one.target:
                one.scheduled_at = None
            one.slept = not one.target or (one.slept and not self.ready(name))

    def _schedule(self) -> None:
        waiting = [one for one in self.live.values() if one.target]
        for one in sorted(waiting, key=lambda one: one.since):
            held = sum(other.scheduled_at is not None and not other.released for other in self.live.values())
            if not self.silent and one.scheduled_at is None and one.going_since is None and held < self.capacity:
                one.scheduled_at = self.now

    def _let_clients_go(self) -> None:
        for name, one in self.live.items():
            leaves = self.service.revision != name and self.records[name].draining_since is not None
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
                one.unready_since = one.unready_since or self.now

    # What a pass reads ---------------------------------------------------------------------------------------------
    def observe(self) -> Observed:
        self._follow_pods()
        names = sorted(set(self.records) | set(self.live))
        revisions = tuple(Revision(name, self.records.get(name), self._look_at(name)) for name in names)
        ready, since = self.said.get(ConditionType.READY, (Status.TRUE, 0.0))
        is_told = ready is Status.FALSE and self.said_of == self.service.revision
        going, going_since = self.said.get(ConditionType.PROGRESSING, (Status.TRUE, 0.0))
        return Observed(
            revisions,
            self.service,
            unanswered_since=max(since, self.service.switched_at) if is_told else None,
            kuberay_silent=self.silent,
            paused=self.paused,
            resumed_at=self.now if going is Status.UNKNOWN else going_since,
        )

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
            return replace(live, ready_replicas=1, answered=min(live.answered, 1), front=None)
        unready = {"probe": Probe.NOT_ASKED, "unready_since": self.now} if how == "flip" else {"probe": Probe.WRONG}
        return replace(live, ready_replicas=0, answered=0, front=None, **unready)

    def _live(self, name: str) -> Live:
        one = self.live.get(name)
        if one is None:
            return Live()
        ready = one.target if self.ready(name) else 0
        worker_pods = 0 if one.released else one.target
        sleepy = self.wanted.replicas.least == 0
        probe = (Probe.UNREACHABLE if self.unreachable else Probe.ANSWERED) if ready else Probe.NOT_ASKED
        crashed = one.scheduled_at is not None and name in self.broken and one.going_since is None
        return Live(
            presence=Presence.PRESENT if one.going_since is None else Presence.TERMINATING,
            uid=one.uid,
            clusters=1,
            pods=1 + worker_pods,
            worker_pods=worker_pods,
            released=one.released,
            ready_replicas=ready,
            target_replicas=one.target,
            holds=sleepy,
            waking_since=one.scheduled_at if worker_pods and not ready and one.slept else None,
            probe=probe,
            answered=ready if probe is Probe.ANSWERED else 0,
            progress=one.since if one.scheduled_at is None else one.scheduled_at,
            unschedulable=Unschedulable(one.since, "no node is free")
            if worker_pods and one.scheduled_at is None
            else None,
            failure=Failure("EngineFailed", "unknown argument", self.now, ("Traceback",)) if crashed else None,
            front_pods=worker_pods if one.was_ready else 0,
            unready_since=one.unready_since if one.was_ready and worker_pods else None,
            front=Front(int(name in self.stuck), one.quiet_since) if ready or sleepy else None,
            settings=one.settings,
            floor=one.floor,
        )

    # What a plan does ----------------------------------------------------------------------------------------------
    def plan(self) -> Plan:
        return decide(self.wanted, self.observe(), self.now)

    def reconcile(self, crash_after: int | None = None) -> Plan:
        """One pass on fresh facts; a crash may leave only its first writes done."""
        plan, selected = self.plan(), self.service.revision
        self.carry_out(plan, crash_after)
        if crash_after is None:
            self._report(plan, selected)
        self.missed.clear()
        return plan

    def _report(self, plan: Plan, selected: str) -> None:
        """The end of a pass. The time of a condition changes with its status only."""
        self.said_of = selected
        for one in plan.conditions:
            if self.said.get(one.type, (None,))[0] is not one.status:
                self.said[one.type] = (one.status, self.now)

    def carry_out(self, plan: Plan, crash_after: int | None = None) -> None:
        assert sum(isinstance(action, SwitchService) for action in plan.actions) <= 1
        for action in plan.actions[:crash_after]:
            self.write(action)
            self.writes += 1
            self.check()

    def settle(self) -> list[Action]:
        """Passes without time between them, until nothing is planned; what they did."""
        done: list[Action] = []
        for _ in range(12):
            plan = self.reconcile()
            if not plan.actions:
                return done
            done += plan.actions
        raise AssertionError(f"still planning without a change outside: {done}")

    def run(self, seconds: float, step: float = 10) -> list[Action]:
        """Passes and time in turn, as the operator's life is."""
        end, done = self.now + seconds, self.settle()
        while self.now < end:
            self.tick(step)
            done += self.settle()
        return done

    def write(self, action: Action) -> None:
        match action:
            case RecordRevision():
                _require(action.number == max((r.number for r in self.records.values()), default=0) + 1)
                old = self.records.get(action.revision, Record(0))
                self.records[action.revision] = replace(old, number=action.number, failure=None)
            case CreateRevision():
                self._check_fence(action.fence)
                _require(action.revision not in self.live)
                made = RayService(f"uid-{self.writes}", self.now, settings=self.wanted.settings, floor=action.floor)
                self.live[action.revision] = made
                self._follow_requests()
                self._schedule()
            case SwitchService():
                self._check_fence(action.fence)
                assert self.asleep or self.wanted.stopped or self.ready(action.revision), f"{action} to no answer"
                self.check_size(action)
                self.check_moved(action)
                self.versions += 1
                self.service = Selection(action.revision, action.previous, self.now, str(self.versions))
            case Retire() | FreeAccelerators():
                self._check_fence(action.fence)
                one = self.live.get(action.revision)
                _require(one is not None and one.uid == action.uid)
                self.check_end(action.revision)
                self._end(action)
            case _:
                self._mark(action)

    def delete_service(self) -> None:
        """Somebody does, and its memory goes with it."""
        self.service = NOTHING

    def _end(self, action: Retire | FreeAccelerators) -> None:
        one = self.live[action.revision]
        if isinstance(action, Retire):
            one.going_since = one.going_since or self.now
        else:
            one.released = True

    def _mark(self, action: Action) -> None:
        _require(action.revision in self.records)
        record = self.records[action.revision]
        match action:
            case RememberFailure():
                _require(record.number == action.number)
                self.check_failure(action)
                self.records[action.revision] = replace(record, failure=action.failure)
            case StartDrain():
                self.records[action.revision] = replace(record, draining_since=self.now)
            case CancelDrain():
                self.records[action.revision] = replace(record, draining_since=None)
            case ApplyInPlace():
                _require(action.revision in self.live)
                self.live[action.revision].settings = action.settings
                self.live[action.revision].floor = action.floor
            case ForgetRecord():
                del self.records[action.revision]

    def _check_fence(self, fence: Fence) -> None:
        newest = max((record.number for record in self.records.values()), default=0)
        _require(fence == Fence(self.service.resource_version, newest))

    # What must always hold -----------------------------------------------------------------------------------------
    def check_end(self, name: str) -> None:
        """Called before a revision loses pods: what answers is never taken away before its successor does."""
        policy = self.wanted.policy
        if policy.strategy is Strategy.RECREATE or policy.when_no_capacity is WhenNoCapacity.RECREATE:
            return
        record = self.records[name]
        if not self.ready(name) and not (name == self.service.revision and self.sleeps(name)):
            return
        assert name != self.service.revision, f"{name} serves and is ended"
        if self.asleep or record.failure is not None:
            return
        successor = self.service.revision
        holds = self.live[successor].slept if successor in self.live else False
        assert self.ready(successor) or holds, f"{name} is ended before its successor serves"
        if self.live[name].had_traffic:
            assert record.draining_since is not None, f"{name} is ended without a drain"
            least = policy.drain if name in self.stuck else 10
            assert self.now >= record.draining_since + least, f"{name} is ended under a client's hands"

    def check_moved(self, switch: SwitchService) -> None:
        """Called at a switch: one missed look is no reason to leave what answers."""
        left = self.service.revision
        if self.asleep or not self.ready(left) or switch.revision == self.wanted.revision:
            return
        failure = self.records[self.wanted.revision].failure
        assert failure is not None or self._is_long_missed(left), f"{switch} away from what answers"

    def _is_long_missed(self, name: str) -> bool:
        return self.now - self.missed_since.get(name, self.now) >= LOST_SECONDS

    def check_failure(self, failed: RememberFailure) -> None:
        """Called when a revision is given up: what was taken for lost is."""
        if failed.failure.reason == Reason.LOST_AFTER_SWITCH.value and not self.asleep:
            assert not self.ready(failed.revision) or self._is_long_missed(failed.revision), f"{failed} answers"

    def check_size(self, switch: SwitchService) -> None:
        """Called at a switch: what traffic moves to has the replicas that it needs now."""
        if not self.asleep and self.ready(switch.previous) and switch.previous == self.service.revision:
            needed = min(self.live[switch.previous].target, self.wanted.replicas.greatest)
            assert self.live[switch.revision].target >= needed, f"{switch} to too few replicas"

    def check(self) -> None:
        """Called after every write: at most one revision with pods beside the serving one."""
        holding = {name for name, one in self.live.items() if one.going_since is None}
        serving = self.service.revision or min(holding, default="")
        assert len(holding - {serving}) <= 1, f"{holding} at one time, {serving} serves"


def started(policy: UpgradePolicy | None = None, name: str = "a") -> World:
    """A world in which revision `name` serves and nothing is left to do."""
    world = World(Wanted(name, policy=policy or UpgradePolicy()))
    world.run(LOAD_SECONDS + 20)
    assert world.service.revision == name
    assert world.ready(name)
    return world


def edit(world: World, revision: str) -> None:
    """The user's edit of fields that need a new revision."""
    world.wanted = replace(world.wanted, revision=revision)


def set_policy(world: World, policy: UpgradePolicy) -> None:
    """The user's edit of spec.upgrade."""
    world.wanted = replace(world.wanted, policy=policy)


def kinds(actions: list[Action] | tuple[Action, ...]) -> Iterator[tuple[str, str]]:
    """Actions as (name, revision), in order."""
    return ((type(action).__name__, action.revision) for action in actions)


def _require(condition: bool) -> None:
    if not condition:
        raise RefusedError
