"""When to look again although nothing may have changed by then."""

from __future__ import annotations

from collections.abc import Iterator

from sglang_operator.lifecycle.failing import can_fall_back, counts_from, gives_up_at
from sglang_operator.lifecycle.growth import gives_back_at, tries_again_at
from sglang_operator.lifecycle.plan import WaitUntil
from sglang_operator.lifecycle.retire import QUIET_SECONDS, SETTLE_SECONDS, drain_limit
from sglang_operator.lifecycle.scene import LOST_SECONDS, Scene, drains_since, is_missed, steady_at


def next_timer(scene: Scene) -> WaitUntil | None:
    """The first limit that ends after now, or None when only an event can change the plan."""
    if scene.observed.kuberay_silent:
        return None  # time-outs stand still until it is heard again
    coming = [timer for timer in _timers(scene) if timer.at > scene.now]
    return min(coming, key=lambda timer: timer.at, default=None)


def _timers(scene: Scene) -> Iterator[WaitUntil]:
    yield from _aim_timers(scene)
    yield from _growth_timers(scene)
    yield from _drain_timers(scene)
    if scene.observed.service.previous:
        yield WaitUntil(scene.observed.service.switched_at + scene.policy.min_ready, "minReadySeconds")
    if is_missed(scene, scene.selected):
        since = scene.observed.unanswered_since
        yield WaitUntil((scene.now if since is None else since) + LOST_SECONDS, "another look at what is selected")
    if scene.selected.live.waking_since is not None:
        yield WaitUntil(scene.selected.live.waking_since + scene.wanted.hold, "holdSeconds")
    record = scene.wanted_revision.record
    if scene.has_failed and record and record.failure and scene.wanted_revision.present:
        yield WaitUntil(record.failure.at + scene.policy.keep_failed, "keepFailedSeconds")


def _aim_timers(scene: Scene) -> Iterator[WaitUntil]:
    aim = scene.aim.live
    if scene.aim.name != scene.selected.name:
        yield WaitUntil(steady_at(scene, scene.aim), "replicas that have just answered first")
    if aim.unschedulable:
        yield WaitUntil(aim.unschedulable.since + scene.policy.capacity_timeout, "capacityTimeoutSeconds")
        if (gives_up := gives_up_at(scene, scene.aim)) is not None:
            yield WaitUntil(gives_up, "capacityTimeoutSeconds, after room was made")
    elif aim.progress and scene.aim.name != scene.selected.name and can_fall_back(scene):
        yield WaitUntil(counts_from(scene, scene.aim) + scene.policy.progress_deadline, "progressDeadlineSeconds")


def _growth_timers(scene: Scene) -> Iterator[WaitUntil]:
    for revision in (scene.aim, scene.serving):
        if (at := gives_back_at(scene, revision)) is not None:
            yield WaitUntil(at, "capacityTimeoutSeconds of half a replica")
    if (again := tries_again_at(scene, scene.serving)) is not None:
        yield WaitUntil(again, "another try of a replica that gave its nodes back")


def _drain_timers(scene: Scene) -> Iterator[WaitUntil]:
    for other in scene.others:
        since = drains_since(scene, other)
        if since is None or not other.present:
            continue
        yield WaitUntil(since + SETTLE_SECONDS, "endpoints settle")
        yield WaitUntil(drain_limit(scene, since), "drainSeconds")
        if other.live.front and other.live.front.quiet_since is not None:
            yield WaitUntil(other.live.front.quiet_since + QUIET_SECONDS, "the old front stays quiet")
        if other.live.unready_since is not None:
            yield WaitUntil(other.live.unready_since + LOST_SECONDS, "no replica of it comes back")
