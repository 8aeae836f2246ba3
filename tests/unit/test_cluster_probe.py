"""How many questions the replicas of a revision cost, and that all of them are heard."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from sglang_operator.cluster.probe import ROUNDS, Answers, Prober, Report
from sglang_operator.lifecycle.observed import Probe


class Fronts(Prober):
    """Each pod has a front that hands a request to the replica with the fewest under way, as HAProxy's leastconn, and
    among those in turns. All begin with the same one, or each with its own."""

    def __init__(self, replicas: int, *, apart: bool = False, dead: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self.replicas, self.apart, self.dead, self.asked = replicas, apart, dead, 0
        self._turns: dict[str, itertools.count[int]] = {}
        self._busy: dict[str, list[int]] = {}

    async def _ask_once(self, address: str, generate: bool) -> Report | Answers:
        self.asked += 1
        if address in self.dead:
            return Answers(Probe.UNREACHABLE)
        turns = self._turns.setdefault(address, itertools.count(hash(address) if self.apart else 0))
        busy = self._busy.setdefault(address, [0] * self.replicas)
        first = next(turns)
        chosen = min(range(self.replicas), key=lambda one: (busy[one], (one - first) % self.replicas))
        busy[chosen] += 1
        await asyncio.sleep(0)
        busy[chosen] -= 1
        return Report(f"r{chosen}", address, "", 0, 1.0)


def addresses(count: int) -> list[str]:
    return [f"10.0.0.{index}" for index in range(count)]


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("count", [1, 2, 16, 200])
def test_all_replicas_are_heard_with_few_questions(count: int, apart: bool) -> None:
    fronts = Fronts(count, apart=apart)
    found = asyncio.run(fronts.ask(addresses(count), generate=True))
    assert len(found.reports) == count
    assert fronts.asked <= 3 * count


@pytest.mark.parametrize("count", [4, 64])
def test_a_replica_that_is_missing_costs_no_square_of_questions(count: int) -> None:
    fronts = Fronts(count - 1)
    found = asyncio.run(fronts.ask(addresses(count), generate=True))
    assert len(found.reports) == count - 1
    assert fronts.asked == (1 + ROUNDS) * count


def test_a_dead_front_hides_no_replica() -> None:
    fronts = Fronts(8, dead=frozenset(addresses(3)))
    assert len(asyncio.run(fronts.ask(addresses(8), generate=True)).reports) == 8


def test_nobody_answers() -> None:
    fronts = Fronts(2, dead=frozenset(addresses(2)))
    assert asyncio.run(fronts.ask(addresses(2), generate=True)).probe is Probe.UNREACHABLE
    assert fronts.asked == 2
