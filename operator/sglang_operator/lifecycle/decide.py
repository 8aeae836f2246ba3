"""`decide`: the state machine of a rollout. There is no stored state: what is observed is the state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sglang_operator.lifecycle.failing import remember_failure
from sglang_operator.lifecycle.observed import Observed
from sglang_operator.lifecycle.outcome import conditions_of
from sglang_operator.lifecycle.plan import Action, Plan
from sglang_operator.lifecycle.retire import end_others, free_half_placed, keep_from_draining, make_room
from sglang_operator.lifecycle.scene import Scene
from sglang_operator.lifecycle.start import (
    apply_in_place,
    create_aim,
    forget_records,
    record_wanted,
    restore_serving,
)
from sglang_operator.lifecycle.timers import next_timer
from sglang_operator.lifecycle.traffic import move_traffic
from sglang_operator.lifecycle.wanted import Wanted

# The first rule that plans something is the step of this pass; the next pass sees what came of it. What is lost
# first when it waits comes first: the memory of a failure, then traffic, then the revision that serves.
STEPS: Final[tuple[Callable[[Scene], tuple[Action, ...]], ...]] = (
    remember_failure,
    move_traffic,
    restore_serving,
    keep_from_draining,
    end_others,
    make_room,
    free_half_placed,
    create_aim,
    forget_records,
)


def decide(wanted: Wanted, observed: Observed, now: float) -> Plan:
    """Plan the next writes of one endpoint's rollout.

    Pure: the same facts give the same plan, and facts that already are as wanted give a plan without actions. At most
    one action moves traffic. `now` is Unix seconds of the clock that `observed` was read by. Raises nothing.
    """
    scene = Scene(wanted, observed, now)
    conditions = conditions_of(scene)
    if observed.paused:
        return Plan(conditions=conditions)
    actions = (*record_wanted(scene), *_step(scene), *apply_in_place(scene))
    return Plan(actions, next_timer(scene), conditions)


def _step(scene: Scene) -> tuple[Action, ...]:
    return next((actions for rule in STEPS if (actions := rule(scene))), ())
