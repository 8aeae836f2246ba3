"""`decide` under edits, faults, crashes between any two writes and passes on old facts."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from hypothesis import example, given, settings
from hypothesis import strategies as st
from unit.lifecycle_world import RefusedError, World, started

from sglang_operator.lifecycle.decide import decide
from sglang_operator.lifecycle.observed import Observed
from sglang_operator.lifecycle.reasons import ConditionType, Status
from sglang_operator.lifecycle.wanted import Bounds, Strategy, UpgradePolicy, Wanted, WhenNoCapacity

QUICK = UpgradePolicy(capacity_timeout=100, progress_deadline=100, drain=60, min_ready=30, keep_failed=100)
POLICIES = [
    QUICK,
    replace(QUICK, min_ready=0),
    replace(QUICK, drain=0, progress_deadline=50, history_limit=0),
]
RECREATING = [
    replace(QUICK, strategy=Strategy.RECREATE),
    replace(QUICK, when_no_capacity=WhenNoCapacity.RECREATE),
]
NAMES = ["a", "b", "c"]
EVENTS = st.one_of(
    st.tuples(st.just("edit"), st.sampled_from(NAMES)),
    st.tuples(st.just("policy"), st.integers(0, 4)),
    st.tuples(st.just("settings"), st.sampled_from("xyz")),
    st.tuples(st.just("break"), st.sampled_from(NAMES)),
    st.tuples(st.just("mend"), st.sampled_from(NAMES)),
    st.tuples(st.just("stick"), st.sampled_from(NAMES)),
    st.tuples(st.just("die"), st.sampled_from(NAMES)),
    st.tuples(st.just("delete"), st.sampled_from(NAMES)),
    st.tuples(st.just("lose service"), st.none()),
    st.tuples(st.just("lose record"), st.sampled_from(NAMES)),
    st.tuples(st.just("miss"), st.tuples(st.sampled_from(NAMES), st.sampled_from(["time-out", "flip", "partial"]))),
    st.tuples(st.just("capacity"), st.integers(0, 3)),
    st.tuples(st.just("demand"), st.integers(0, 3)),  # of an autoscaled endpoint
    st.tuples(st.just("bounds"), st.sampled_from([Bounds(1, 3), Bounds(0, 3), Bounds(2, 2)])),  # likewise
    st.tuples(st.just("toggle"), st.sampled_from(["silent", "unreachable", "paused"])),
    st.tuples(st.just("pass"), st.integers(0, 5)),
    st.tuples(st.just("crash"), st.integers(0, 2)),
    st.tuples(st.just("stale"), st.integers(1, 6)),
    st.tuples(st.just("tick"), st.sampled_from([10, 30, 60, 200])),
    *[st.tuples(st.just("run"), st.sampled_from([30, 60, 100]))] * 4,  # without time in peace nothing gets far
)
OPENINGS = st.sampled_from(  # chance alone is seldom in the middle of a rollout
    [
        [],
        [("edit", "b"), ("run", 30)],
        [("edit", "b"), ("run", 50)],
        [("edit", "b"), ("run", 30), ("toggle", "unreachable"), ("run", 100), ("die", "b"), ("toggle", "unreachable")],
        [("stick", "a"), ("edit", "b"), ("run", 100)],
        [("stick", "a"), ("edit", "b"), ("run", 100), ("toggle", "unreachable"), ("die", "b")],
        [("stick", "a"), ("edit", "b"), ("run", 100), ("miss", ("a", "time-out"))],
        [("stick", "a"), ("edit", "b"), ("run", 100), ("miss", ("b", "flip"))],
        [("stick", "a"), ("edit", "b"), ("run", 50), ("miss", ("b", "time-out"))],
        [("stick", "a"), ("edit", "b"), ("run", 100), ("lose service", None)],
        [("stick", "a"), ("edit", "b"), ("lose record", "a"), ("run", 100)],
        [("stick", "a"), ("edit", "b"), ("run", 100), ("lose record", "a")],
    ]
)
# What serves breaks, and somebody deletes all that tells of it: its record and the Service.
FORGOTTEN = [
    ("stick", "a"),
    ("edit", "b"),
    ("lose record", "a"),
    ("run", 100),
    ("toggle", "paused"),
    ("edit", "a"),
    ("lose service", None),
]
HISTORIES = st.builds(lambda first, then: first + then, OPENINGS, st.lists(EVENTS, min_size=3, max_size=30))


FIXED = Bounds()
HOLD = 100.0
AUTOSCALED = st.sampled_from([Bounds(1, 3), Bounds(0, 1), Bounds(0, 3)])


class Life:
    """A world, the events that befall it, and what earlier passes read."""

    def __init__(self, policies: list[UpgradePolicy], bounds: Bounds = FIXED) -> None:
        self.world = started(policies[0])
        self.policies = policies
        self.is_fixed = bounds == FIXED
        self.do_bounds(bounds)
        self.world.settle()
        self.read: list[tuple[Wanted, Observed, float]] = []

    def live(self, history: list[tuple[str, object]]) -> None:
        for kind, value in history:
            getattr(self, f"do_{kind.replace(' ', '_')}")(value)
            self.do_pass(1)
            self.world.tick(10)

    def do_edit(self, name: str) -> None:
        self.world.wanted = replace(self.world.wanted, revision=name)

    def do_policy(self, index: int) -> None:
        self.world.wanted = replace(self.world.wanted, policy=self.policies[index % len(self.policies)])

    def do_settings(self, value: str) -> None:
        self.world.wanted = replace(self.world.wanted, settings=value)

    def do_break(self, name: str) -> None:
        self.world.broken.add(name)

    def do_mend(self, name: str) -> None:
        self.world.broken.discard(name)

    def do_stick(self, name: str) -> None:
        self.world.stuck.add(name)

    def do_die(self, name: str) -> None:
        if name in self.world.live:
            self.world.live[name].dead_until = self.world.now + 50

    def do_delete(self, name: str) -> None:
        if name in self.world.live:
            self.world.live[name].going_since = self.world.now

    def do_lose_service(self, _: None) -> None:
        self.world.delete_service()

    def do_lose_record(self, name: str) -> None:
        """Somebody deletes it by hand."""
        self.world.records.pop(name, None)

    def do_miss(self, what: tuple[str, str]) -> None:
        name, how = what
        self.world.missed[name] = how

    def do_capacity(self, count: int) -> None:
        self.world.capacity = count

    def do_demand(self, replicas: int) -> None:
        self.world.demand = replicas

    def do_bounds(self, bounds: Bounds) -> None:
        """They reach what runs in place, as other settings do."""
        if not self.is_fixed:
            wanted = replace(self.world.wanted, replicas=bounds, hold=HOLD, settings=str(bounds))
            self.world.wanted = wanted

    def do_toggle(self, what: str) -> None:
        setattr(self.world, what, not getattr(self.world, what))

    def do_tick(self, seconds: float) -> None:
        self.world.tick(seconds)

    def do_run(self, seconds: float) -> None:
        for _ in range(int(seconds // 10)):
            self.do_pass(2)
            self.world.tick(10)

    def do_pass(self, count: int) -> None:
        for _ in range(count):
            self.read.append((self.world.wanted, self.world.observe(), self.world.now))
            self.world.reconcile()

    def do_crash(self, after: int) -> None:
        self.world.reconcile(crash_after=after)

    def do_stale(self, back: int) -> None:
        """A pass that has slept since it read: its writes must be refused or do no harm."""
        wanted, observed, now = self.read[-min(back, len(self.read))] if self.read else self._fresh()
        self.world.asleep = True
        with contextlib.suppress(RefusedError):
            self.world.carry_out(decide(wanted, observed, now))
        self.world.asleep = False

    def _fresh(self) -> tuple[Wanted, Observed, float]:
        return self.world.wanted, self.world.observe(), self.world.now

    def stop_faults(self) -> None:
        """What outside goes wrong ends; an argument that the engine refuses stays refused."""
        self.world.silent = self.world.unreachable = self.world.paused = False
        self.world.capacity = 3
        self.world.stuck.clear()


def check_converged(world: World) -> None:
    """Nothing is left to do, and the endpoint serves what it can."""
    assert not world.plan().actions
    world.tick(1000)
    assert not world.plan().actions
    degraded = next(one.status for one in world.plan().conditions if one.type is ConditionType.DEGRADED)
    wanted = world.wanted.revision
    failed = world.records[wanted].failure is not None
    if world.sleeps(wanted) and world.service.revision == wanted and not failed:
        assert set(world.live) == {wanted}  # whether it is broken shows when it wakes
    elif wanted in world.broken or failed:
        assert degraded is Status.TRUE
        serves = world.ready(world.service.revision) or world.sleeps(world.service.revision)
        assert serves or world.broken & {wanted, world.service.revision}
    else:
        assert world.service.revision == wanted
        assert set(world.live) == {wanted}
        assert degraded is Status.FALSE


@settings(max_examples=100, deadline=None)
@given(HISTORIES)
def test_under_blue_green_what_answers_is_never_ended_first_and_there_is_one_extra_at_most(
    history: list[tuple[str, object]],
) -> None:
    Life(POLICIES).live(history)  # World.check and World.check_end look at every write


@settings(max_examples=45, deadline=None)
@given(HISTORIES)
@example([*FORGOTTEN, ("break", "b"), ("lose record", "b")])
@example([*FORGOTTEN, ("break", "a"), ("break", "b"), ("lose record", "b")])
def test_it_converges_once_faults_stop(history: list[tuple[str, object]]) -> None:
    life = Life(POLICIES)
    life.live(history)
    life.stop_faults()
    life.world.run(1000, step=50)
    check_converged(life.world)


@settings(max_examples=30, deadline=None)
@given(HISTORIES)
def test_it_converges_under_every_strategy(history: list[tuple[str, object]]) -> None:
    life = Life([*POLICIES, *RECREATING])
    life.world.check_end = lambda name: None  # type: ignore[method-assign]  # Recreate is an outage by wish
    life.live(history)
    life.stop_faults()
    life.world.run(1000, step=50)
    check_converged(life.world)


@settings(max_examples=60, deadline=None)
@given(HISTORIES, AUTOSCALED)
def test_where_the_number_of_replicas_follows_the_requests(history: list[tuple[str, object]], bounds: Bounds) -> None:
    life = Life(POLICIES, bounds)  # World.check_size looks at every switch
    life.live(history)
    life.stop_faults()
    life.world.run(1000, step=50)
    check_converged(life.world)


@settings(max_examples=45, deadline=None)
@given(HISTORIES)
def test_a_second_pass_over_an_unchanged_world_plans_nothing(history: list[tuple[str, object]]) -> None:
    life = Life(POLICIES)
    life.live(history)
    life.world.settle()
    writes = life.world.writes
    assert life.world.plan() == life.world.plan()
    assert not life.world.plan().actions
    assert life.world.writes == writes


@settings(max_examples=30, deadline=None)
@given(HISTORIES)
def test_nothing_is_planned_while_paused(history: list[tuple[str, object]]) -> None:
    life = Life(POLICIES)
    life.live(history)
    observed = replace(life.world.observe(), paused=True)
    plan = decide(life.world.wanted, observed, life.world.now)
    assert not plan.actions
    assert plan.wait is None
