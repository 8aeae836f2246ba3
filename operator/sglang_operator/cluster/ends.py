"""How worker pods ended that are gone: KubeRay deletes a pod whose container has ended, at once, and makes another.

What it ended with is then in one place only, KubeRay's event `DeletedWorkerPod` on the RayCluster; why the kubelet
evicted it is in the kubelet's own event `Evicted` on the pod.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sglang_operator.cluster.api import Api
from sglang_operator.cluster.events import last_seen, read_events
from sglang_operator.cluster.metadata import condition_of, is_terminating, name_of, unix
from sglang_operator.cluster.pods import CRASH_LOOP, CRASHES, OOM, is_worker, oom_killed
from sglang_operator.lifecycle.observed import Failure

Object = Mapping[str, Any]
REASON: Final = "DeletedWorkerPod"
RECENT_SECONDS: Final = 900.0
KEPT_SECONDS: Final = 3600.0  # for which a cluster keeps events, unless it is told otherwise
TOLERATED: Final = 1  # ends in that time, after which a pod in their place still counts as progress
REPLACED_SECONDS: Final = 30.0  # KubeRay makes the first pods of a cluster within seconds
# KubeRay 1.6: "… Ray container terminated status: &ContainerStateTerminated{ExitCode:137,Signal:0,Reason:OOMKilled…"
_ENDED: Final = re.compile(r"ContainerStateTerminated\{ExitCode:(\d+),.*?Reason:(\w*)")
_FAILED: Final = "Pod status: Failed"  # its containers may have no end of their own; one scaled away has no status

EVICTED: Final = "Evicted"
MOST_EVICTIONS: Final = 500  # of all pods of the namespace, about half a MB: those of others come before ours, too
LONGEST_PREFIX: Final = 50  # of pods' names, from that of their cluster (KubeRay, PodName): it is cut there
# Of the kubelet (pkg/kubelet/eviction/helpers.go): the pod's own limits. What it says of a node's pressure may pass.
_OWN_LIMIT: Final = re.compile(r"exceeds the (total )?limit|exceeded its local ephemeral storage limit")
_MORE_DISK: Final = (
    "raise spec.resources.ephemeralStorage to what the model takes and 20Gi more, or set spec.model.cache"
)


@dataclass(frozen=True)
class Ends:
    """What earlier workers of a revision came to."""

    failure: Failure | None = None
    """Why their containers end again and again, None if they do not."""
    again: float | None = None
    """Since when (Unix seconds) they end repeatedly, however slowly: what happens later is the same over again."""


async def read_ends(api: Api, pods: Sequence[Object], clusters: Sequence[Object], now: float) -> Ends:
    """Of workers that were replaced. Asked only while no replica answers."""
    lost = [one for one in clusters if lost_workers(one, pods, now)]
    told = [event for one in lost for event in await _deletions(api, one)]
    evicted = [event for one in lost for event in await _evictions(api, one)] if any(map(_is_failed, told)) else []
    return Ends(failure_of(told, now) or eviction_of(evicted, now), repeated_since(told, now))


def eviction_of(events: Iterable[Object], now: float) -> Failure | None:
    """Beyond its own limit once is a failure: the next pod will be, too. For another reason only after three times."""
    recent = [
        (at, str(one.get("message", "")).strip()) for one in events if (at := last_seen(one)) > now - RECENT_SECONDS
    ]
    own = [(at, text) for at, text in recent if _OWN_LIMIT.search(text)]
    if not own and len(recent) < CRASHES:
        return None
    at, text = max(own or recent)
    return Failure(EVICTED, f"the kubelet evicted a worker pod: {text}{f': {_MORE_DISK}' if own else ''}", at)


def repeated_since(events: Iterable[Object], now: float) -> float | None:
    """When a worker ended once more than is tolerated, among the ends that the cluster still tells of."""
    ends = sorted(at for one in events if _is_end(one) and (at := last_seen(one)) > now - KEPT_SECONDS)
    return ends[TOLERATED] if len(ends) > TOLERATED else None


def _is_end(event: Object) -> bool:
    return _told(event) is not None or _is_failed(event)


def _is_failed(event: Object) -> bool:
    return _FAILED in str(event.get("message", ""))


def failure_of(events: Iterable[Object], now: float) -> Failure | None:
    """Out of memory once is a failure; another end only when it has come three times in a quarter of an hour."""
    recent = [(at, *told) for one in events if (at := last_seen(one)) > now - RECENT_SECONDS and (told := _told(one))]
    killed = [at for at, _, reason in recent if reason == OOM]
    if killed:
        return Failure(OOM, oom_killed("ray-worker"), max(killed))
    if len(recent) < CRASHES:
        return None
    at, code, reason = max(recent)
    message = f"container ray-worker ended {len(recent)} times, the last with {reason}, exit code {code}; see its log"
    return Failure(CRASH_LOOP, message, at)


def _told(event: Object) -> tuple[int, str] | None:
    found = _ENDED.search(str(event.get("message", "")))
    return (int(found[1]), found[2]) if found else None


def lost_workers(cluster: Object, pods: Sequence[Object], now: float) -> bool:
    """A worker of it is younger than those that it began with, or all are missing."""
    latest = max((unix(pod["metadata"].get("creationTimestamp")) for pod in pods if is_worker(pod)), default=now)
    is_touched = bool(cluster.get("status"))
    return is_touched and not is_terminating(cluster) and latest - _begun(cluster) > REPLACED_SECONDS


def _begun(cluster: Object) -> float:
    """When KubeRay made its first pods: of a thousand clusters the last one waits for minutes, and each question for
    events makes the API server read all of the namespace. Once its pods have been Ready nobody knows any more."""
    provisioned = condition_of(cluster, "RayClusterProvisioned")
    begun = unix(provisioned.get("lastTransitionTime")) if provisioned.get("status") == "False" else 0.0
    return max(begun, unix(cluster["metadata"].get("creationTimestamp")))


async def _deletions(api: Api, cluster: Object) -> Sequence[Object]:
    metadata = cluster["metadata"]
    return await read_events(api, metadata["namespace"], f"involvedObject.uid={metadata['uid']},reason={REASON}")


async def _evictions(api: Api, cluster: Object) -> Sequence[Object]:
    """Of pods by the names that KubeRay gives those of this cluster: they themselves are gone."""
    fields = f"involvedObject.kind=Pod,reason={EVICTED}"
    found = await read_events(api, cluster["metadata"]["namespace"], fields, MOST_EVICTIONS)
    prefix = f"{name_of(cluster)}-"[:LONGEST_PREFIX]
    return [event for event in found if str(event["involvedObject"].get("name", "")).startswith(prefix)]
