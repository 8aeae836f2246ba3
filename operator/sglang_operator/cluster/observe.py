"""From what was read, and from answers and logs of the pods, to the facts that decisions use."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from sglang_operator.cluster import earlier
from sglang_operator.cluster import pods as of_pods
from sglang_operator.cluster.api import Api, ApiError
from sglang_operator.cluster.complaints import STUCK_SECONDS, read_complaint
from sglang_operator.cluster.ends import Ends, read_ends
from sglang_operator.cluster.events import READ_SECONDS
from sglang_operator.cluster.fronts import front_of, may_hold_streams, unready_since
from sglang_operator.cluster.in_place import InPlace, asked_for, pods_per_replica, written_values
from sglang_operator.cluster.logs import UNREAD, Said, parse_log, read_log
from sglang_operator.cluster.metadata import is_terminating, labels_of, name_of, unix
from sglang_operator.cluster.probe import Answers, Held, Prober, Report
from sglang_operator.cluster.selection import read_selection
from sglang_operator.cluster.silence import admitted_at, said_of, suspended, unheard
from sglang_operator.cluster.snapshot import Object, Snapshot
from sglang_operator.lifecycle.observed import Live, Observed, Presence, Probe, Revision
from sglang_operator.render import names

LOGS: Final = 3  # of workers that are read in one pass


@dataclass(frozen=True)
class Sight:
    """One revision as this pass saw it: the facts, and what status tells beyond them."""

    revision: Revision
    pods: tuple[Object, ...] = ()
    said: Said = field(default_factory=Said)
    answers: Answers = field(default_factory=Answers)
    pods_per_replica: int = 1
    is_unread: bool = False
    """Nobody knows what events tell of it."""


@dataclass(frozen=True)
class View:
    """Everything that one pass knows."""

    observed: Observed
    sights: Mapping[str, Sight]

    def is_unread(self, wanted: str) -> bool:
        """Nobody knows what events tell of this revision, or of the one that is selected."""
        asked = {wanted, self.observed.service.revision} & self.sights.keys()
        return any(self.sights[name].is_unread for name in asked)


@dataclass(frozen=True)
class _Workers:
    """What the pods of one revision are and say."""

    all: tuple[Object, ...]
    workers: tuple[Object, ...]
    ready: tuple[str, ...]
    """Addresses of the workers that are Ready. Of a replica on several nodes that is one: the others have no front."""
    each: int
    """Worker pods of one replica."""
    answers: Answers
    said: Said
    generated: bool = False
    """The replicas that answered have had their engines generate for it."""
    head: Held | None = None
    """Asked when no replica answers and the head serves."""
    complaint: str = ""
    ended: Ends = field(default_factory=Ends)
    """How its earlier pods ended."""
    is_unread: bool = False
    """Events that tell of the last two could not be read, or not in time."""

    @property
    def reports(self) -> list[Report]:
        """A front hands a request to any replica of its Ray cluster, so one on a pod that is not Ready may answer."""
        return [report for report in self.answers.reports if report.node in self.ready]

    @property
    def fronts(self) -> list[Object]:
        """The workers that clients' streams may be on."""
        return [pod for pod in self.workers if may_hold_streams(pod)]


async def observe(
    api: Api, prober: Prober, snapshot: Snapshot, wanted: str, now: float, *, paused: bool = False
) -> View:
    """Ask the pods of every revision of `snapshot`. `wanted`: name of the revision that the spec asks for; `paused`:
    the spec or the platform's defaults say so."""
    whole = snapshot
    snapshot = replace(snapshot, pods=tuple(pod for pod in snapshot.pods if not of_pods.is_left_behind(pod, now)))
    found = sorted(_names(snapshot))
    asked = await _ask_all(api, prober, snapshot, {name: _must_generate(snapshot, name, wanted) for name in found})
    if _may_go_back(snapshot, asked, wanted):
        drain = {name: True for name in found if _drains(snapshot, name) and not asked[name].generated}
        asked |= await _ask_all(api, prober, snapshot, drain)
    told = await asyncio.gather(*(_with_complaint(api, snapshot, name, asked[name], now) for name in found))
    sights = {name: _sight(snapshot, name, workers, now) for name, workers in zip(found, told, strict=True)}
    silent = earlier.was_silent(snapshot)  # which stays as it was by what nobody knows
    explained = {name for name, one in sights.items() if one.revision.live.complaint or (one.is_unread and not silent)}
    observed = Observed(
        revisions=tuple(sight.revision for sight in sights.values()),
        service=read_selection(snapshot.service),
        unanswered_since=earlier.unanswered_since(snapshot),
        kuberay_silent=bool(waiting := unheard(whole, now, explained)),
        kuberay_said=said_of(waiting),
        paused=paused,
        resumed_at=earlier.resumed_at(snapshot, now),
        counts_from=earlier.counts_from(snapshot, _revision(sights, wanted), now),
    )
    return View(observed, sights)


def _revision(sights: Mapping[str, Sight], name: str) -> Revision:
    return sights[name].revision if name in sights else Revision(name)


def _names(snapshot: Snapshot) -> set[str]:
    live = (*snapshot.ray_services, *snapshot.ray_clusters, *snapshot.pods)
    labelled = {revision for item in live if (revision := labels_of(item).get(names.REVISION))}
    return {stored.name for stored in snapshot.records} | labelled


def _must_generate(snapshot: Snapshot, name: str, wanted: str) -> bool:
    """Traffic may move to it, so its engines have to prove themselves. The others are only asked how they are."""
    return name != read_selection(snapshot.service).revision and (name == wanted or not _drains(snapshot, name))


def _drains(snapshot: Snapshot, name: str) -> bool:
    return any(stored.name == name and stored.record.draining_since is not None for stored in snapshot.records)


def _may_go_back(snapshot: Snapshot, asked: Mapping[str, _Workers], wanted: str) -> bool:
    """Traffic may move to a revision that drains: what is selected does not answer, or what is wanted has failed."""
    selected = asked.get(read_selection(snapshot.service).revision)
    failed = any(stored.name == wanted and stored.record.failure for stored in snapshot.records)
    return failed or selected is None or not (selected.reports or selected.head)


async def _ask_all(api: Api, prober: Prober, snapshot: Snapshot, generate: Mapping[str, bool]) -> dict[str, _Workers]:
    """Ask the revisions that `generate` names; it says of which the engines shall generate."""
    told = await asyncio.gather(*(_ask(api, prober, snapshot, name, generate=must) for name, must in generate.items()))
    return dict(zip(generate, told, strict=True))


async def _ask(api: Api, prober: Prober, snapshot: Snapshot, name: str, *, generate: bool) -> _Workers:
    pods = _of(snapshot.pods, name)
    workers = tuple(filter(of_pods.is_worker, pods))
    ready = tuple(of_pods.address(pod) for pod in workers if of_pods.is_ready(pod))
    answers = (await prober.ask(ready, generate=generate)).only_of(name_of(snapshot.endpoint), name)
    seen = _Workers(pods, workers, ready, _pods_per_replica(snapshot, name), answers, Said(), generate)
    heads = tuple(filter(of_pods.is_serving_head, pods))
    if heads and not seen.reports:
        seen = replace(seen, head=await prober.ask_head(of_pods.address(heads[0])))
    # The log is read only while it can tell why a replica is missing.
    return seen if len(seen.reports) * seen.each >= len(workers) else replace(seen, said=await _listen(api, workers))


async def _with_complaint(api: Api, snapshot: Snapshot, name: str, seen: _Workers, now: float) -> _Workers:
    """Events are read only while no replica answers and none can be waited for in peace."""
    if seen.reports or _is_at_peace(seen.head):
        return seen
    clusters = _of(snapshot.ray_clusters, name)
    try:
        async with asyncio.timeout(READ_SECONDS):
            seen = replace(seen, complaint=await read_complaint(api, seen.all, clusters, now))
            return replace(seen, ended=await read_ends(api, seen.workers, clusters, now))
    except (TimeoutError, ApiError):
        return replace(seen, is_unread=True)


def _is_at_peace(head: Held | None) -> bool:
    """It holds requests, and no replica is wanted, or not for so long that something must be in the way."""
    return head is not None and (head.target == 0 or head.wished_seconds < STUCK_SECONDS)


def _pods_per_replica(snapshot: Snapshot, name: str) -> int:
    """By the record: somebody may have edited the RayService."""
    recorded = (stored.ray_service for stored in snapshot.records if stored.name == name)
    return next(map(pods_per_replica, recorded), 1)


async def _listen(api: Api, workers: Sequence[Object]) -> Said:
    """The log of the first worker that tells of a failure, or of the first at all, those that are not Ready first; with
    the latest progress of any of them."""
    started = sorted(filter(_may_tell, workers), key=of_pods.is_ready)
    told = await asyncio.gather(*(_hear(api, pod) for pod in started[:LOGS]))
    first = next((said for said in told if said.failure), told[0] if told else Said())
    latest = max((said.at for said in told), default=0.0)
    return first if first.at >= latest else replace(first, at=latest)


def _may_tell(pod: Object) -> bool:
    """Its log can be read and matters: a node that is gone never answers, and a pod that ends is replaced."""
    return of_pods.has_node(pod) and not is_terminating(pod) and not of_pods.is_cut_off(pod)


async def _hear(api: Api, pod: Object) -> Said:
    text = await read_log(api, pod)
    return UNREAD if text is None else parse_log(text)


def _sight(snapshot: Snapshot, name: str, seen: _Workers, now: float) -> Sight:
    record = next((stored.record for stored in snapshot.records if stored.name == name), None)
    service = snapshot.ray_service(name)
    live = _live(service, _of(snapshot.ray_clusters, name), seen, now)
    if not seen.reports:
        live = replace(live, waking_since=_waking_since(snapshot, name, seen, now))
    if seen.is_unread and live.unschedulable and earlier.is_counted(snapshot, name):
        live = replace(live, ends_again=True)  # or its pods would have the whole deadline again
    return Sight(Revision(name, record, live), seen.all, seen.said, seen.answers, seen.each, seen.is_unread)


def _waking_since(snapshot: Snapshot, name: str, seen: _Workers, now: float) -> float | None:
    """A revision that had a replica and lost it looks the same as one that wakes; that it slept only the status knows.
    Its pod may be older than its sleep: it stays for a minute or two, and may be used again. It may also be one in the
    place of another, for whose sake no request is held for longer: since when one is wanted, the head knows."""
    slept, head = (snapshot.endpoint.get("status") or {}).get("atZeroSince"), seen.head
    if slept is None or name != read_selection(snapshot.service).revision:
        return None
    began = of_pods.first_created(seen.workers)
    if began is None:  # Serve wants a replica, and Ray's autoscaler, which looks every few seconds, has not seen it
        if head is None or not head.target or asked_for(_of(snapshot.ray_clusters, name), seen.each):
            return None
        return now - head.wished_seconds
    wished = now - head.wished_seconds if head and head.wished_seconds > 0 else began
    return max(min(began, wished), unix(slept))


def _live(service: Object | None, clusters: Sequence[Object], seen: _Workers, now: float) -> Live:
    written = written_values(service) if service else None
    reports, probe = seen.reports, seen.answers.probe
    is_told_to_hold = bool(written and written.holds and not written.released)
    return Live(
        presence=_presence(service),
        uid=service["metadata"]["uid"] if service else "",
        clusters=len(clusters),
        pods=len(seen.all),
        worker_pods=len(seen.workers),
        ends_again=seen.ended.again is not None,
        released=bool(written and written.released),
        ready_replicas=len(seen.ready) if probe is Probe.UNREACHABLE else len(reports),
        target_replicas=_target(written, clusters, seen) if written else None,
        holds=is_told_to_hold and any(map(of_pods.is_serving_head, seen.all)),
        may_hold=is_told_to_hold and any(map(of_pods.is_ready_head, seen.all)),
        probe=probe,
        answered=len(reports) if seen.generated else 0,
        answered_since=tuple(sorted(now - report.answered_seconds for report in reports)) if seen.generated else (),
        progress=_progress(service, clusters, seen),
        unschedulable=of_pods.unschedulable(seen.all) or suspended(clusters),
        placed=sum(map(of_pods.has_node, seen.workers)) // seen.each,
        half_placed_since=of_pods.half_placed_since(seen.workers, seen.each),
        complaint=seen.complaint,
        failure=seen.said.failure or of_pods.failure(seen.all, now, seen.each) or seen.ended.failure,
        mishap=seen.said.mishap,
        head_lost=bool(clusters) and not any(map(of_pods.is_ready_head, seen.all)),
        outlives_head=any(cluster["spec"].get("gcsFaultToleranceOptions") for cluster in clusters),
        front_pods=len(seen.fronts),
        unready_since=unready_since(seen.fronts),
        front=front_of(seen.fronts, seen.answers.reports, seen.head, now),
        settings=written.settings if written else "",
        floor=written.floor if written else 0,
        holding=bool(written and written.holding),
        taken_back=written.taken_back if written else None,
    )


def _presence(service: Object | None) -> Presence:
    if service is None:
        return Presence.ABSENT
    return Presence.TERMINATING if is_terminating(service) else Presence.PRESENT


def _progress(service: Object | None, clusters: Sequence[Object], seen: _Workers) -> float | None:
    # A log that could not be read may tell of progress: nothing is overdue by it.
    if service is None or seen.said.is_unread:
        return None
    made = (unix(service["metadata"].get("creationTimestamp")), *map(admitted_at, clusters))
    changed = max(of_pods.last_change(seen.all), seen.said.at)
    # Workers that end again and again begin anew each time, which is no progress.
    return max(*made, changed if seen.ended.again is None else min(changed, seen.ended.again))


def _target(written: InPlace, clusters: Sequence[Object], seen: _Workers) -> int | None:
    """A fixed number, or what Ray Serve wants; while it has replicas, from what Ray's autoscaler asks KubeRay for."""
    if not written.scaling:
        return written.counts[0]
    if seen.head and seen.head.target is not None:
        return seen.head.target  # the pods of replicas that are gone stay for a minute or two
    asked = asked_for(clusters, seen.each)  # which the autoscaler leaves as it is while the lower bound gives the pods
    return None if asked is None else written.capped(max(asked, written.bounds[0]))


def _of(items: Sequence[Object], revision: str) -> tuple[Object, ...]:
    return tuple(item for item in items if labels_of(item).get(names.REVISION) == revision)
