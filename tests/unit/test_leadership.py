"""Leader election: never two writers, whatever stands still, arrives late or gets lost; and always one in the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sglang_operator.cluster.leadership import Record, Timing, View

WALL = datetime(2026, 1, 1, tzinfo=UTC)
TIMING = Timing()
NAMES = ("a", "b", "c")
WHO = st.sampled_from(NAMES)


@dataclass
class Server:
    """A Lease with its resourceVersion."""

    record: Record | None = None
    version: int = 0

    def write(self, record: Record, version: int) -> bool:
        if version != self.version:
            return False
        self.record, self.version = record, version + 1
        return True


@dataclass
class Process:
    """A process whose clock has its own zero, and which may stand still between any two steps."""

    view: View
    clock_offset: float
    wall_offset: timedelta
    read: tuple[Record | None, int] | None = None
    to_send: tuple[Record, int, float] | None = None
    answers: list[tuple[bool, Record, float]] = field(default_factory=list)

    def now(self, time: float) -> float:
        return time + self.clock_offset


class Election(RuleBasedStateMachine):
    """Each step of each process is a rule of its own, so that everything can happen in between."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 1000.0
        self.server = Server()
        self.processes = {
            name: Process(View(name, TIMING), 5000.0 * index, timedelta(days=index - 1))
            for index, name in enumerate(NAMES)
        }

    @rule(seconds=st.one_of(st.sampled_from([TIMING.retry, TIMING.renew_deadline, TIMING.duration]), st.floats(0, 40)))
    def wait(self, seconds: float) -> None:
        self.time += seconds

    @rule(who=WHO)
    def read_arrives_at_the_server(self, who: str) -> None:
        self.processes[who].read = (self.server.record, self.server.version)

    @rule(who=WHO)
    def read_is_answered_and_a_write_decided(self, who: str) -> None:
        process = self.processes[who]
        if process.read is None:
            return
        (record, version), process.read = process.read, None
        now = process.now(self.time)
        process.view = process.view.saw(record, now)
        wanted = process.view.next_record(now, WALL + process.wall_offset)
        process.to_send = (wanted, version, now) if wanted else None

    @rule(who=WHO)
    def write_arrives_at_the_server(self, who: str) -> None:
        process = self.processes[who]
        if process.to_send:
            record, version, sent_at = process.to_send
            process.to_send = None
            process.answers.append((self.server.write(record, version), record, sent_at))

    @rule(who=WHO, lost=st.booleans())
    def write_is_answered(self, who: str, lost: bool) -> None:
        process = self.processes[who]
        if process.answers:
            accepted, record, sent_at = process.answers.pop(0)
            if accepted and not lost:
                process.view = process.view.won(record, sent_at)

    @rule(who=WHO)
    def try_without_trouble(self, who: str) -> None:
        self.read_arrives_at_the_server(who)
        self.read_is_answered_and_a_write_decided(who)
        self.write_arrives_at_the_server(who)
        self.write_is_answered(who, lost=False)

    @rule(who=WHO)
    def release(self, who: str) -> None:
        process = self.processes[who]
        if process.view.renewed_at is None:
            return
        process.view = process.view.resigned().saw(self.server.record, process.now(self.time))
        record = process.view.released()
        if record:
            self.server.write(record, self.server.version)

    @rule(who=WHO)
    def kill(self, who: str) -> None:
        self._restart(who)

    @invariant()
    def one_writer(self) -> None:
        writers = [name for name, p in self.processes.items() if p.view.may_write(p.now(self.time))]
        assert len(writers) <= 1, writers

    @invariant()
    def the_lost_never_write_again(self) -> None:
        for process in self.processes.values():
            assert not (process.view.is_deposed and process.view.may_write(process.now(self.time)))

    def teardown(self) -> None:
        """After quiet seconds one leads: whoever is alive and tries."""
        self._restart("a")
        for _ in range(2 * int(TIMING.duration / TIMING.retry)):
            self.try_without_trouble("a")
            self.time += TIMING.retry
        self.try_without_trouble("a")
        assert self.processes["a"].view.may_write(self.processes["a"].now(self.time))

    def _restart(self, who: str) -> None:
        # A new process has a new identity, as a new pod has.
        old = self.processes[who]
        identity = old.view.identity + "'"
        self.processes[who] = Process(View(identity, TIMING), old.clock_offset, old.wall_offset)


TestElection = Election.TestCase
TestElection.settings = settings(max_examples=200)


def led(at: float = 100.0) -> View:
    view = View("me", TIMING).saw(None, at)
    record = view.next_record(at, WALL)
    assert record
    return view.won(record, at)


def other(renewed: str = "1", holder: str = "other", duration: float = 15) -> Record:
    return Record(holder=holder, duration=duration, acquired="0", renewed=renewed, transitions=4)


def test_the_first_one_creates_the_lease() -> None:
    record = View("me").saw(None, 1.0).next_record(1.0, WALL)
    assert record
    assert record.to_spec() == {
        "holderIdentity": "me",
        "leaseDurationSeconds": 15,
        "acquireTime": "2026-01-01T00:00:00.000000Z",
        "renewTime": "2026-01-01T00:00:00.000000Z",
        "leaseTransitions": 0,
    }


def test_a_renewal_keeps_when_it_was_acquired() -> None:
    record = led().next_record(102, WALL + timedelta(seconds=2))
    assert record
    assert (record.acquired, record.renewed, record.transitions) == (
        "2026-01-01T00:00:00.000000Z",
        "2026-01-01T00:00:02.000000Z",
        0,
    )


def test_another_ones_lease_is_left_alone_until_it_stood_still_for_its_duration() -> None:
    view = View("me").saw(other("1"), 0).saw(other("2"), 10)
    assert view.next_record(24.9, WALL) is None
    taken = view.next_record(25, WALL)
    assert taken
    assert (taken.holder, taken.transitions) == ("me", 5)


def test_a_lease_of_an_operator_with_other_settings_lasts_as_long_as_it_says() -> None:
    view = View("me").saw(other(duration=60), 0)
    assert view.next_record(59, WALL) is None
    assert view.next_record(60, WALL)


def test_a_released_lease_is_free_at_once() -> None:
    assert View("me").saw(other(holder=""), 0).next_record(0, WALL)


def test_a_restarted_pod_takes_its_own_lease_back_at_once() -> None:
    assert View("other").saw(other(), 0).next_record(0, WALL)


def test_the_next_try_comes_when_the_lease_of_the_other_ends() -> None:
    view = View("me").saw(other(), 0)
    assert [view.waits(now) for now in (0, 13, 14.5, 20)] == [2, 2, 0.5, 2]


def test_who_led_writes_nothing_near_the_end_of_the_lease() -> None:
    view = led(at=100)
    assert [view.may_write(now) for now in (100, 111.9, 112, 130)] == [True, True, False, False]


def test_who_led_gives_up_at_the_deadline() -> None:
    view = led(at=100)
    assert [view.is_lost(now) for now in (100, 109.9, 110)] == [False, False, True]
    assert view.next_record(110, WALL) is None


def test_who_led_is_lost_when_another_one_holds_the_lease() -> None:
    view = led(at=100).saw(other(), 101)
    assert view.is_lost(101)
    assert not view.may_write(101)
    assert view.saw(other(holder=""), 102).next_record(102, WALL) is None, "it ends, it does not lead again"


def test_who_resigned_writes_nothing_and_leaves_the_lease_free() -> None:
    view = led(at=100).resigned()
    assert not view.may_write(100)
    released = view.released()
    assert released
    assert released.to_spec()["holderIdentity"] == ""
    assert led(at=100).saw(other(), 101).released() is None


def test_empty_fields_of_a_lease_are_nobodys() -> None:
    assert Record.from_spec({}) == Record()
    assert (
        View("me").saw(Record.from_spec({"holderIdentity": None, "leaseDurationSeconds": None}), 0).expires_in(0) <= 0
    )


@pytest.mark.parametrize("wrong", [{"retry": 0}, {"renew_deadline": 2}, {"renew_deadline": 13}, {"margin": 0}])
def test_a_timing_that_allows_two_leaders_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="needs 0 < retry"):
        Timing(**wrong)
