"""What is wanted: the revision that the spec asks for, its in-place settings, and how to get there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from sglang_operator.api import Endpoint
from sglang_operator.api.spec import Upgrade
from sglang_operator.api.spec_scaling import HOLD_SECONDS
from sglang_operator.render.revision import revision_name, short_hash


class Strategy(Enum):
    """How a new revision replaces the serving one."""

    BLUE_GREEN = "BlueGreen"  # beside it, on a second set of accelerators
    RECREATE = "Recreate"  # after it, with an outage of one model load


class WhenNoCapacity(Enum):
    """What BlueGreen does when the second set of accelerators cannot be had."""

    WAIT = "Wait"
    RECREATE = "Recreate"


@dataclass(frozen=True)
class UpgradePolicy:
    """How a rollout goes. A change takes effect at once and never makes a revision. Durations are seconds."""

    strategy: Strategy = Strategy.BLUE_GREEN
    when_no_capacity: WhenNoCapacity = WhenNoCapacity.WAIT
    capacity_timeout: float = 900  # of unschedulable new pods, before `when_no_capacity` applies
    progress_deadline: float = 900  # without any progress; never a total
    drain: float = 900  # for streams on the old revision, after its endpoints have settled
    min_ready: float = 0  # after the switch: the old revision is kept, to switch back when the new one fails
    keep_failed: float = 3600  # head and objects of a failed revision stay for reading; its accelerators go at once
    history_limit: int = 5  # records of revisions of which nothing else is left


@dataclass(frozen=True)
class Bounds:
    """Least and greatest number of replicas; equal for a fixed count, 0 and 0 when stopped."""

    least: int = 1
    greatest: int = 1


@dataclass(frozen=True)
class Wanted:
    """What the endpoint asks for.

    `revision` must be the name in the serving record when the user's rollout fields equal those recorded there: new
    defaults, templates or images of the operator are no reason for another name.
    """

    revision: str
    settings: str = ""  # a digest that differs when something that reaches the pods in place differs
    replicas: Bounds = Bounds()
    policy: UpgradePolicy = UpgradePolicy()
    hold: float = 0  # seconds that a request may wait for a replica, where there may be none or was none
    settings_apart: Mapping[str, str] = field(default_factory=dict)  # of revisions that are told otherwise, by name

    def settings_of(self, revision: str) -> str:
        """`settings` of what it shall be told."""
        return self.settings_apart.get(revision, self.settings)

    @property
    def stopped(self) -> bool:
        """No replica is wanted at all."""
        return self.replicas.greatest == 0


def policy_of(upgrade: Upgrade) -> UpgradePolicy:
    """`spec.upgrade` as decisions read it."""
    return UpgradePolicy(
        strategy=Strategy(upgrade.strategy),
        when_no_capacity=WhenNoCapacity(upgrade.when_no_capacity),
        capacity_timeout=upgrade.capacity_timeout_seconds,
        progress_deadline=upgrade.progress_deadline_seconds,
        drain=upgrade.drain_seconds,
        min_ready=upgrade.min_ready_seconds,
        keep_failed=upgrade.keep_failed_seconds,
        history_limit=upgrade.history_limit,
    )


def wanted_of(endpoint: Endpoint, revision: str = "", told: Mapping[str, Endpoint] | None = None) -> Wanted:
    """What a valid endpoint asks for. `revision`: the name that its rollout fields are recorded under; without it the
    one that a first record of them would get. `told`: the endpoint as revisions are told of it in place that are not
    told all."""
    spec = endpoint.spec
    return Wanted(
        revision=revision or revision_name(endpoint),
        settings=settings_digest(endpoint),
        replicas=Bounds(spec.fewest, spec.most),
        policy=policy_of(spec.upgrade),
        hold=spec.scaling.hold_seconds if spec.scaling else HOLD_SECONDS,
        settings_apart={name: settings_digest(one) for name, one in (told or {}).items()},
    )


def settings_digest(endpoint: Endpoint) -> str:
    """Differs when something that reaches running pods in place differs."""
    spec = endpoint.spec
    scaling = [spec.scaling.model_dump(mode="json")] if spec.scaling else []
    adapters = [[one.model_dump(mode="json") for one in spec.model.adapters]] if spec.model.adapters else []
    limits = spec.api.limits.model_dump(mode="json")
    return short_hash([spec.replicas, spec.api.unknown_model, limits, *scaling, *adapters])
