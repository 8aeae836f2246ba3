"""A replica of several pods that the scheduler has nodes for in part: it does not hold them for ever."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sglang_operator.lifecycle import decide
from sglang_operator.lifecycle.observed import (
    Live,
    Observed,
    Presence,
    Probe,
    Record,
    Revision,
    Selection,
    Unschedulable,
)
from sglang_operator.lifecycle.plan import Action, CreateRevision, FreeAccelerators, Retire
from sglang_operator.lifecycle.reasons import ConditionType, Reason
from sglang_operator.lifecycle.wanted import UpgradePolicy, Wanted

TIMEOUT = 900.0
NEW = Wanted("b", policy=UpgradePolicy(capacity_timeout=TIMEOUT))
SERVING = Live(
    Presence.PRESENT,
    "uid-a",
    pods=2,
    worker_pods=1,
    ready_replicas=1,
    target_replicas=1,
    probe=Probe.ANSWERED,
    answered=1,
)
HALF = Live(
    Presence.PRESENT,
    "uid-b",
    pods=3,
    worker_pods=2,
    half_placed=True,
    unschedulable=Unschedulable(0.0, "0/2 nodes are available: 1 Insufficient nvidia.com/gpu."),
    progress=0.0,
)


def seen(new: Live, serving: str = "a") -> Observed:
    old = (Revision("a", Record(1), SERVING),) if serving else ()
    return Observed((*old, Revision("b", Record(2), new)), Selection(serving))


def actions(new: Live, now: float, serving: str = "a") -> list[type[Action]]:
    return [type(one) for one in decide(NEW, seen(new, serving), now).actions if getattr(one, "revision", "") == "b"]


@pytest.mark.parametrize("serving", ["a", ""])
def test_it_gives_its_nodes_back_after_the_capacity_time_out(serving: str) -> None:
    assert FreeAccelerators not in actions(HALF, TIMEOUT - 1, serving)
    assert FreeAccelerators in actions(HALF, TIMEOUT, serving)
    assert FreeAccelerators not in actions(replace(HALF, half_placed=False), TIMEOUT, serving), "it holds none"


def test_then_it_tries_again() -> None:
    freed = replace(HALF, released=True, half_placed=False, unschedulable=None, worker_pods=0)
    assert Retire in actions(freed, TIMEOUT)
    assert CreateRevision in actions(Live(), TIMEOUT)


def test_what_serves_keeps_its_nodes() -> None:
    grows = replace(SERVING, worker_pods=3, half_placed=True, unschedulable=HALF.unschedulable)
    observed = Observed((Revision("a", Record(1), grows),), Selection("a"))
    plan = decide(replace(NEW, revision="a"), observed, TIMEOUT)
    assert not [one for one in plan.actions if isinstance(one, FreeAccelerators)]


def test_it_says_so() -> None:
    told = {one.type: one for one in decide(NEW, seen(HALF), TIMEOUT).conditions}[ConditionType.PROGRESSING]
    assert told.reason is Reason.NO_CAPACITY
    assert "are given back" in told.message
