"""How worker pods ended that are gone: KubeRay deletes a pod whose container has ended, at once, and makes another.

What it ended with is then in one place only, KubeRay's event `DeletedWorkerPod` on the RayCluster.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from sglang_operator.cluster.api import Api, ApiError
from sglang_operator.cluster.metadata import is_terminating, unix
from sglang_operator.cluster.paths import EVENT
from sglang_operator.cluster.pods import CRASHES, OOM, first_created, is_worker, oom_killed
from sglang_operator.lifecycle.observed import Failure

Object = Mapping[str, Any]
REASON: Final = "DeletedWorkerPod"
RECENT_SECONDS: Final = 900.0
REPLACED_SECONDS: Final = 30.0  # KubeRay makes the first pods of a cluster within seconds
# KubeRay 1.6: "… Ray container terminated status: &ContainerStateTerminated{ExitCode:137,Signal:0,Reason:OOMKilled…"
_ENDED: Final = re.compile(r"ContainerStateTerminated\{ExitCode:(\d+),.*?Reason:(\w*)")


async def read_ends(api: Api, pods: Sequence[Object], clusters: Sequence[Object], now: float) -> Failure | None:
    """Why containers of workers end again and again, None if they do not. Asked only while no replica answers."""
    for cluster in clusters:
        if _lost_workers(cluster, pods, now) and (found := failure_of(await _events(api, cluster), now)):
            return found
    return None


def failure_of(events: Iterable[Object], now: float) -> Failure | None:
    """Out of memory once is a failure; another end only when it has come three times in a quarter of an hour."""
    recent = [(at, *told) for one in events if (at := _at(one)) > now - RECENT_SECONDS and (told := _told(one))]
    killed = [at for at, _, reason in recent if reason == OOM]
    if killed:
        return Failure(OOM, oom_killed("ray-worker"), max(killed))
    if len(recent) < CRASHES:
        return None
    at, code, reason = max(recent)
    message = f"container ray-worker ended {len(recent)} times, the last with {reason}, exit code {code}; see its log"
    return Failure("CrashLoop", message, at)


def _told(event: Object) -> tuple[int, str] | None:
    found = _ENDED.search(str(event.get("message", "")))
    return (int(found[1]), found[2]) if found else None


def _at(event: Object) -> float:
    return unix(
        (event.get("series") or {}).get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    )


def _lost_workers(cluster: Object, pods: Sequence[Object], now: float) -> bool:
    """Its workers are younger than those that it began with, or missing."""
    began = first_created(filter(is_worker, pods)) or now
    return not is_terminating(cluster) and began - unix(cluster["metadata"].get("creationTimestamp")) > REPLACED_SECONDS


async def _events(api: Api, cluster: Object) -> Sequence[Object]:
    query = urlencode(
        {"fieldSelector": f"involvedObject.uid={cluster['metadata']['uid']},reason={REASON}", "limit": 50}
    )
    try:
        found: Sequence[Object] = (await api.get(f"{EVENT.of(cluster['metadata']['namespace'])}?{query}"))["items"]
    except ApiError:  # a role of an earlier chart may not read them
        return ()
    return found
