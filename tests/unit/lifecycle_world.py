"""A small world for the tests of `decide`: a place, what plans do to it, and what must always hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from unit.lifecycle_place import LOAD_SECONDS, Place, RayService

from sglang_operator.lifecycle.decide import decide
from sglang_operator.lifecycle.observed import NOTHING, Observed, Record, Selection
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
    TryRevision,
)
from sglang_operator.lifecycle.reasons import Reason
from sglang_operator.lifecycle.scene import LOST_SECONDS
from sglang_operator.lifecycle.wanted import Strategy, UpgradePolicy, Wanted, WhenNoCapacity


class RefusedError(Exception):
    """The API server, or the fence before the write, refused it."""


class World(Place):
    """A place with an operator."""

    # What a plan does ----------------------------------------------------------------------------------------------
    def plan(self) -> Plan:
        return self._decided()[0]

    def _decided(self) -> tuple[Plan, Observed]:
        observed = self.observe()
        return decide(self.wanted, observed, self.now), observed

    def reconcile(self, crash_after: int | None = None) -> Plan:
        """One pass on fresh facts; a crash may leave only its first writes done."""
        plan, observed = self._decided()
        self.carry_out(plan, crash_after)
        if crash_after is None:
            self._report(plan, observed)
        self.missed.clear()
        return plan

    def _report(self, plan: Plan, observed: Observed) -> None:
        """The end of a pass. The time of a condition changes with its status only."""
        self.said_of = observed.service.revision
        wanted = observed.get(self.wanted.revision)
        self.counting = wanted.name, None if wanted.is_excused else observed.counts_from
        if wanted.is_excused:
            self.excused_at[wanted.name] = self.now
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
                made.holds = self.wanted.replicas.least == 0
                self.live[action.revision] = made
                self._follow_requests()
                self._schedule()
            case TryRevision():
                _require(action.revision in self.records)
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
                self._write_holding(action)
            case ForgetRecord():
                del self.records[action.revision]

    def _write_holding(self, action: ApplyInPlace) -> None:
        """KubeRay takes a head that shall not hold requests out of the Service at once."""
        one, least = self.live[action.revision], self.wanted.replicas.least
        was, one.holding, one.holds = one.holds, action.holding, least == 0 or action.holding
        is_left = was and not one.holds and action.revision == self.service.revision
        assert not is_left or self.wanted.stopped or self.ready(action.revision), f"nothing answers after {action}"

    def _check_fence(self, fence: Fence) -> None:
        newest = max((record.number for record in self.records.values()), default=0)
        _require(fence == Fence(self.service.resource_version, newest))

    # What must always hold -----------------------------------------------------------------------------------------
    def check_end(self, name: str) -> None:
        """Called before a revision loses pods: what answers is never taken away before its successor does."""
        policy = self.wanted.policy
        if policy.strategy is Strategy.RECREATE or policy.when_no_capacity is WhenNoCapacity.RECREATE:
            return
        record = self.records.get(name, Record(0, draining_since=self.service.switched_at))  # somebody deleted it
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
        if failed.failure.reason == Reason.DEADLINE.value and not self.asleep:
            idle = self.now - self.excused_at.get(failed.revision, 0.0)
            assert idle >= self.wanted.policy.progress_deadline, f"{failed}: it could make none until {idle} s ago"

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
