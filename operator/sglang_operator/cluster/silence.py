"""What waits for others than us: for KubeRay, which may not be there, and for Kueue, which admits what has a quota."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from sglang_operator.cluster import pods as of_pods
from sglang_operator.cluster.metadata import condition_of, is_terminating, labels_of, name_of, unix
from sglang_operator.cluster.paths import RAY_SERVICE
from sglang_operator.cluster.snapshot import Object, Snapshot
from sglang_operator.lifecycle.observed import Unschedulable
from sglang_operator.render import names

# KubeRay looks at each of its objects every 2 s; what it has not begun after this it is not there to do.
SILENT_SECONDS: Final = 90.0
_SUSPENSION: Final = "RayClusterSuspended"  # condition of a RayCluster
_REFUSED: Final = "ValidationFailed"  # reason of condition Ready of a RayService that KubeRay makes nothing of
_SUSPENDED: Final = "its RayCluster is suspended: the Kueue queue has not admitted it"


def unheard(snapshot: Snapshot, now: float, explained: Collection[str] = ()) -> tuple[Object, ...]:
    """What of ours has waited for KubeRay for longer than it ever takes. Of the revisions in `explained` an event says
    why pods do not come: KubeRay writes no status of a RayCluster before its head Service is there."""
    clustered = {_revision(item) for item in snapshot.ray_clusters}
    waiting = [item for item in snapshot.ray_services if _waits(snapshot, item, clustered)]
    live = [item for item in snapshot.ray_clusters if not is_terminating(item)]
    waiting += [item for item in live if _is_untouched(snapshot, item) and _revision(item) not in explained]
    # With Redis a RayCluster has KubeRay's finalizer: its pods are KubeRay's to delete, the garbage collector waits.
    kept = [item for item in snapshot.ray_clusters if is_terminating(item) and _has_staying_pods(snapshot, item)]
    return tuple(item for item in (*waiting, *kept) if now - _asked_at(item) > SILENT_SECONDS)


def _waits(snapshot: Snapshot, service: Object, clustered: Collection[str]) -> bool:
    """It has no RayCluster, or stays though it was deleted. In the foreground (`kubectl delete --cascade=foreground`)
    it waits for pods that end as they should, which is the garbage collector's business."""
    if not is_terminating(service):
        return name_of(service) not in clustered
    return not any(_revision(pod) == name_of(service) and is_terminating(pod) for pod in snapshot.pods)


def said_of(waiting: Sequence[Object]) -> str:
    """Of the first RayService among them what KubeRay says of it, else where to look; "" if there is none."""
    found = [item for item in waiting if item.get("kind") == RAY_SERVICE.name and not is_terminating(item)]
    told = next(((name_of(item), text) for item in found if (text := _refusal(item))), None)
    if told:
        return f"it refuses RayService {told[0]}: {told[1]}; correct the spec"
    if not found:
        return ""
    name = name_of(found[0])
    return f"look at the KubeRay operator, and why it makes no RayCluster of {name}: kubectl describe rayservice {name}"


def suspended(clusters: Sequence[Object]) -> Unschedulable | None:
    """Since when a RayCluster has had no quota, which comes to the same as having no node."""
    held = [one for one in clusters if _is_suspended(one) and not is_terminating(one)]
    return Unschedulable(min(map(_suspended_at, held)), _SUSPENDED, queued=True) if held else None


def admitted_at(cluster: Object) -> float:
    """When it was made, or KubeRay found that it may have pods; before that, that it may have none."""
    told = condition_of(cluster, _SUSPENSION).get("lastTransitionTime")
    return max(unix(cluster["metadata"].get("creationTimestamp")), unix(told))


def _is_suspended(cluster: Object) -> bool:
    """Kueue has taken its quota, or has just given it: KubeRay makes pods once its own condition says so."""
    return bool(cluster["spec"].get("suspend")) or _is_told(cluster)


def _suspended_at(cluster: Object) -> float:
    """Since it was made, or since Kueue took its quota back."""
    return admitted_at(cluster) if _is_told(cluster) else unix(cluster["metadata"].get("creationTimestamp"))


def _is_told(cluster: Object) -> bool:
    """By KubeRay."""
    return condition_of(cluster, _SUSPENSION).get("status") == "True"


def _refusal(service: Object) -> str:
    said = condition_of(service, "Ready")
    return str(said.get("message", "")) if said.get("reason") == _REFUSED else ""


def _revision(item: Object) -> str:
    return labels_of(item).get(names.REVISION, "")


def _is_untouched(snapshot: Snapshot, cluster: Object) -> bool:
    """Nothing shows that KubeRay has come to it: no pods, and no status, which says that a quota of pods is used up."""
    return not cluster.get("status") and not any(
        labels_of(pod).get(of_pods.CLUSTER) == name_of(cluster) for pod in snapshot.pods
    )


def _asked_at(item: Object) -> float:
    """Unix seconds of the latest thing that KubeRay was asked to do with it."""
    return unix(item["metadata"].get("deletionTimestamp") or item["metadata"].get("creationTimestamp"))


def _has_staying_pods(snapshot: Snapshot, cluster: Object) -> bool:
    """Nobody has told its head or workers to end. The pod that empties Redis is KubeRay's answer, not a question."""
    return any(
        labels_of(pod).get(of_pods.CLUSTER) == name_of(cluster) and of_pods.is_ray(pod) and not is_terminating(pod)
        for pod in snapshot.pods
    )
