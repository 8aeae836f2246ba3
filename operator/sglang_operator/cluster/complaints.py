"""Why pods do not come or do not start, in the words of whoever tries: a volume, a Secret, a quota, a policy.

The kubelet and KubeRay try again by themselves, so none of it fails a revision; but only Events tell of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sglang_operator.cluster import pods as of_pods
from sglang_operator.cluster.api import Api
from sglang_operator.cluster.events import last_seen, read_events
from sglang_operator.cluster.metadata import is_terminating, labels_of, name_of, unix

Object = Mapping[str, Any]
STUCK_SECONDS: Final = 6.0  # a first mount may fail for a moment, and KubeRay takes seconds to make pods
RECENT_SECONDS: Final = 900.0
ASKED: Final = 2  # objects whose events are read in one pass
LONGEST: Final = 800
# Told in a better place: by the scheduler in the pod's condition, by a container's state, or normal while one starts.
_ELSEWHERE: Final = frozenset({"FailedScheduling", "NotTriggerScaleUp", "Unhealthy", "BackOff"})

# The kubelet says these beside the event that has the cause, and later.
_NO_CAUSE: Final = frozenset({"Error: ErrImagePull", "Error: ImagePullBackOff"})


async def read_complaint(api: Api, pods: Sequence[Object], clusters: Sequence[Object], now: float) -> str:
    """What keeps the pods of a revision from starting; "" if nothing does, or nobody says."""
    for pod in pods:
        if text := of_pods.volume_error(pod, now - STUCK_SECONDS):
            return f"{name_of(pod)}: {text}"[:LONGEST]
    for one in suspects(pods, clusters, now)[:ASKED]:
        if text := of_pods.start_error(one) or latest(await _warnings(api, one), now):
            return f"{name_of(one)}: {text}"[:LONGEST]
    return ""


def suspects(pods: Sequence[Object], clusters: Sequence[Object], now: float) -> list[Object]:
    """Pods with a node of which a container does not start; RayClusters that lack their head or all workers."""
    kinds = {(labels_of(pod).get(of_pods.CLUSTER), of_pods.is_worker(pod)) for pod in pods}
    lacking = [
        one
        for one in clusters
        if not {(name_of(one), False), (name_of(one), True)} <= kinds
        and not is_terminating(one)
        and now - unix(one["metadata"].get("creationTimestamp")) > STUCK_SECONDS
    ]
    return [*(pod for pod in pods if of_pods.stands_still(pod, now - STUCK_SECONDS)), *lacking]


def latest(events: Iterable[Object], now: float) -> str:
    """The message of the latest warning that is neither old nor told elsewhere."""
    told = [(at, str(one.get("message", ""))) for one in events if (at := _at(one)) > now - RECENT_SECONDS]
    told = [(at, text) for at, text in told if text not in _NO_CAUSE]
    return max(told, default=(0.0, ""))[1]


def _at(event: Object) -> float:
    """Unix seconds when it last happened; 0 for what does not count."""
    if event.get("type") != "Warning" or event.get("reason") in _ELSEWHERE:
        return 0.0
    return last_seen(event)


async def _warnings(api: Api, about: Object) -> Sequence[Object]:
    metadata = about["metadata"]
    return await read_events(api, metadata["namespace"], f"involvedObject.uid={metadata['uid']},type=Warning")
