"""`Scene`: one pass's facts with the roles that revisions have in it. Every rule reads from here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sglang_operator.lifecycle.observed import Observed, Probe, Revision
from sglang_operator.lifecycle.plan import Fence
from sglang_operator.lifecycle.wanted import Strategy, UpgradePolicy, Wanted

# Without an answer for so long, from more than one look: two checks of the kubelet, which asks every 5 s, and two of
# the operator, each of which may take 5 s.
LOST_SECONDS: Final = 10.0
# So long a replica must have answered before traffic leaves one that answers: an engine that its first request ends is
# gone by then. A later end is what spec.upgrade.minReadySeconds is for.
STEADY_SECONDS: Final = 5.0


@dataclass(frozen=True)
class Scene:
    """What is wanted and what was observed, at `now` (Unix seconds)."""

    wanted: Wanted
    observed: Observed
    now: float

    @property
    def policy(self) -> UpgradePolicy:
        """How to get there."""
        return self.wanted.policy

    @property
    def wanted_revision(self) -> Revision:
        """The revision that the spec asks for."""
        return self.observed.get(self.wanted.revision)

    @property
    def selected(self) -> Revision:
        """The revision that the Service selects; one without a name when it selects none."""
        return self.observed.get(self.observed.service.revision)

    @property
    def previous(self) -> Revision:
        """The revision that was selected before."""
        return self.observed.get(self.observed.service.previous)

    @property
    def serving(self) -> Revision:
        """The revision to protect: the selected one, or while the Service is missing the newest that can answer."""
        if self.observed.service.revision:
            return self.selected
        able = [revision for revision in self.observed.revisions if revision.running]
        return max(able, key=number, default=self.selected)

    @property
    def is_recorded(self) -> bool:
        """The wanted revision has its record and is the newest."""
        record = self.wanted_revision.record
        return record is not None and record.number == self.observed.newest_number

    @property
    def has_failed(self) -> bool:
        """The wanted revision was tried and failed, and the spec has not changed since."""
        record = self.wanted_revision.record
        return self.is_recorded and record is not None and record.failure is not None

    @property
    def fallback(self) -> Revision:
        """Where to go when the wanted revision fails; one without a record when there is nowhere to go."""
        return self.previous if self.serving.name == self.wanted.revision else self.serving

    @property
    def aim(self) -> Revision:
        """The revision that traffic shall end at."""
        return self.fallback if self.has_failed and self.fallback.record else self.wanted_revision

    @property
    def others(self) -> tuple[Revision, ...]:
        """Revisions that are neither aimed at nor serving."""
        keep = {self.aim.name, self.serving.name}
        return tuple(revision for revision in self.observed.revisions if revision.name not in keep)

    @property
    def may_delete(self) -> bool:
        """While KubeRay is silent, what it reports may be old: time-outs stand still, and what it made stays."""
        return not self.observed.kuberay_silent

    @property
    def lacks_capacity(self) -> bool:
        """The pods of the revision aimed at have had no node for the whole capacity time-out."""
        waiting = self.aim.live.unschedulable if self.aim.present else None
        return waiting is not None and self.now - waiting.since >= self.policy.capacity_timeout

    @property
    def fence(self) -> Fence:
        """What must still hold when a write of this pass is sent."""
        newest = self.observed.newest_number + (0 if self.is_recorded else 1)
        return Fence(self.observed.service.resource_version, newest)

    @property
    def in_trial(self) -> bool:
        """The switch is younger than minReadySeconds: the revision before it is kept as it is."""
        return self.now < self.observed.service.switched_at + self.policy.min_ready

    @property
    def recreates(self) -> bool:
        """The strategy is Recreate."""
        return self.policy.strategy is Strategy.RECREATE


def number(revision: Revision) -> int:
    """Number of a revision's record, 0 without one."""
    return revision.record.number if revision.record else 0


def drains_since(scene: Scene, revision: Revision) -> float | None:
    """When it was told to end, as its record says; one whose record somebody has deleted: when traffic moved last."""
    if revision.record:
        return revision.record.draining_since
    return scene.observed.service.switched_at if scene.observed.service.revision else None


def needed_replicas(scene: Scene) -> int:
    """Replicas that a revision must have before traffic may move to it: what the serving one needs now, at least 1."""
    if not scene.serving.running and not is_missed(scene, scene.serving):
        return 1  # nothing answers: the first replica that can is better than none
    return max(1, min(scene.serving.live.target_replicas or 0, scene.wanted.replicas.greatest))


def floor_of(scene: Scene, revision: Revision) -> int:
    """Replicas that a rollout needs of a revision whose number of replicas follows the requests, however few come.

    Where traffic may go next has no requests yet; where it may go back to has none any more. What it has just come to
    keeps them until the earlier revision is gone: then its own requests have had time to count.
    """
    if scene.wanted.replicas.least == scene.wanted.replicas.greatest:
        return 0
    if revision.name == scene.selected.name:
        return revision.live.floor if any(other.holds_pods for other in scene.others) else 0
    if revision.name != scene.aim.name and not scene.in_trial:
        return revision.live.floor
    return needed_replicas(scene)


def answers(scene: Scene, revision: Revision) -> bool:
    """A request to it is answered: at once, or after its head has held it until a replica is up."""
    if revision.running or revision.asleep:
        return True
    live = revision.live
    waking = revision.present and live.holds and live.waking_since is not None
    return waking and scene.now < (live.waking_since or 0.0) + scene.wanted.hold


def is_missed(scene: Scene, revision: Revision) -> bool:
    """It does not answer, and that may be this look's fault: a time-out, or one failed check of the kubelet.

    Its pods are there, and earlier looks over LOST_SECONDS did not say the same. Nothing is kept in memory: since when
    it does not answer, condition Ready in status remembers, which each pass writes.
    """
    if answers(scene, revision) or not (revision.present and revision.live.front_pods):
        return False
    since = scene.observed.unanswered_since
    return since is None or scene.now < since + LOST_SECONDS


def is_lost(scene: Scene, revision: Revision) -> bool:
    """It does not answer, and not for one look only."""
    return not answers(scene, revision) and not is_missed(scene, revision)


def is_dead(scene: Scene, revision: Revision) -> bool:
    """No pod that could hold a stream, or the kubelet has called none of them Ready for longer than a failed check."""
    live = revision.live
    if not live.front_pods:
        return not revision.running
    return live.unready_since is not None and scene.now >= live.unready_since + LOST_SECONDS


def has_enough(scene: Scene, revision: Revision) -> bool:
    """As many ready replicas as traffic needs have each answered a real request in this pass."""
    live = revision.live
    if not revision.present or live.released:
        return False
    if scene.wanted.stopped:  # nothing shall run, so there is nothing to prove
        return not scene.serving.running
    return live.probe is Probe.ANSWERED and min(live.ready_replicas, live.answered) >= needed_replicas(scene)


def steady_at(scene: Scene, revision: Revision) -> float:
    """When as many of its replicas as are needed, if they are there, have answered for STEADY_SECONDS; 0 where traffic
    has nothing to lose."""
    since = revision.live.answered_since[: needed_replicas(scene)]
    return since[-1] + STEADY_SECONDS if since and not is_lost(scene, scene.serving) else 0.0


def is_proven(scene: Scene, revision: Revision) -> bool:
    """Traffic may move to it: it has enough replicas that answer, and not only since the first probe."""
    return has_enough(scene, revision) and scene.now >= steady_at(scene, revision)
