"""What the pods of a revision say: who is ready, who waits for a node, and what no retry will mend. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from sglang_operator.cluster.metadata import condition_of, is_terminating, labels_of, unix
from sglang_operator.lifecycle.observed import Failure, Unschedulable
from sglang_operator.render import names

Pod = Mapping[str, Any]
NODE_TYPE: Final = names.RAY_NODE_TYPE
WORKER: Final = "worker"
HEAD: Final = "head"
CLUSTER: Final = "ray.io/cluster"

# Of a container that waits: the image is what is wrong, and it stays wrong. ImagePullBackOff alone may be a registry
# that is away for a moment, so its text decides.
_HOPELESS: Final = frozenset({"InvalidImageName", "ErrImageNeverPull"})
# The kubelet tries these again, and its text says what is missing: a Secret, a ConfigMap, a key in it.
_CONFIG: Final = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_PULL: Final = frozenset({"ErrImagePull", "ImagePullBackOff"})
# What a registry says of an image that is not there or not for us. A registry that is away, busy or slow is waited for.
_NO_SUCH_IMAGE: Final = re.compile(
    r"\b(not found|manifest unknown|name unknown|denied|unauthorized|forbidden|authorization failed)\b", re.IGNORECASE
)
# containerd words every failed request for a manifest so; names and addresses may hold any word.
_NO_ANSWER: Final = re.compile(r"failed to resolve reference|\"[^\"]*\"|https?://\S+", re.IGNORECASE)
# The registry had answered by then: denied or not found is a layer, whose token may have run out, or a file here.
_LATER: Final = re.compile(r"failed to (copy|extract|prepare|register)|failed commit", re.IGNORECASE)
# The scheduler calls these unschedulable too, but no node more would help: the claim is what lacks something.
_VOLUME: Final = re.compile(r"persistentvolumeclaim|persistentvolume|volume node affinity", re.IGNORECASE)
# "0/9 nodes are available: 3 Insufficient cpu, 6 node(s) had …. preemption: 0/9 nodes are available: …": what it says
# of one kind of nodes after the other, and then whether it could make room (pkg/scheduler/framework/types.go).
_NODES: Final = "nodes are available:"
_END: Final = re.compile(r"\.(?:\s|$)|preemption:")
# The scheduler has no node for the pod, or must not look for one yet: Kueue gates the pods of elastic jobs so.
_GATED: Final = "SchedulingGated"
_NO_NODE: Final = frozenset({"Unschedulable", _GATED})
# Of a pod whose node has gone, and of a readiness gate that is not met, which the kubelet says (k8s.io/kubernetes,
# pkg/util/node and pkg/kubelet/status).
_NODE_LOST: Final = "NodeLost"
_GATED_READINESS: Final = "ReadinessGatesNotReady"
_CAUSE: Final = re.compile(r"rpc error|failed to|ErrImagePull", re.IGNORECASE)
OOM: Final = "OOMKilled"
NO_IMAGE: Final = "ImagePullFailed"
CRASH_LOOP: Final = "CrashLoop"
ENDED: Final = "ContainerEnded"
_MORE_MEMORY: Final = {
    "ray-worker": "raise spec.resources.memory",
    "ray-head": "raise spec.head.memory",
    "autoscaler": "it leaks; delete the head pod to start another, at what the loss of a head costs",
}
_RAYS: Final = frozenset(_MORE_MEMORY)  # the containers that are there without spec.podTemplate
_OF_OTHERS: Final = "raise its limit in spec.podTemplate"
_PLACES: Final = (
    "see its log; in spec.podTemplate what is to end belongs in initContainers, and what is to be started again there "
    "too, with restartPolicy: Always"
)
CRASHES: Final = 3  # of a container until it counts as a loop
_TAINTED: Final = "DeletionByTaintManager"
LEFT_SECONDS: Final = 60.0  # after the end of its grace period, which deletionTimestamp is; a kubelet takes seconds


def is_worker(pod: Pod) -> bool:
    """It holds accelerators and a replica."""
    return labels_of(pod).get(NODE_TYPE) == WORKER


def is_ray(pod: Pod) -> bool:
    """It is head or worker, and not the pod of KubeRay's job that empties Redis, which has our labels too."""
    return labels_of(pod).get(NODE_TYPE) in (HEAD, WORKER)


def is_ready(pod: Pod) -> bool:
    """The kubelet says Ready, and it is not on its way out."""
    return not is_terminating(pod) and condition_of(pod, "Ready").get("status") == "True"


def is_serving_head(pod: Pod) -> bool:
    """The head, while KubeRay has it in the Service: its front answers."""
    return labels_of(pod).get(names.RAY_SERVE) == "true" and is_ready_head(pod)


def is_ready_head(pod: Pod) -> bool:
    """The head, with the state of its Ray cluster."""
    return labels_of(pod).get(NODE_TYPE) == HEAD and is_ready(pod)


def is_cut_off(pod: Pod) -> bool:
    """Its node has not been heard of for long: only the kubelet there knows more of it.

    The node's controller then says that the pod is not Ready, and leaves all else as the kubelet said it last, so that
    its containers still are. Of a pod that never was Ready nothing shows.
    """
    if pod.get("status", {}).get("reason") == _NODE_LOST:
        return True
    ready, containers = condition_of(pod, "Ready"), condition_of(pod, "ContainersReady")
    is_contrary = ready.get("status") == "False" and containers.get("status") == "True"
    return is_contrary and ready.get("reason") != _GATED_READINESS


def is_left_behind(pod: Pod, now: float) -> bool:
    """It should have ended long ago, and nobody is there to end it: its node is lost and the Node object stays. That
    may last until somebody deletes one of them by force, and nothing may wait for it."""
    ends = pod["metadata"].get("deletionTimestamp")
    return bool(ends) and now > unix(ends) + LEFT_SECONDS


def is_given_up(pod: Pod, now: float) -> bool:
    """Kubernetes has evicted it because its node is lost, or its time to end is long over, and its kubelet is silent.

    One that the scheduler has placed there after the loss has no container, and no condition that could tell; a kubelet
    would end such a pod at once.
    """
    grace = pod["metadata"].get("deletionGracePeriodSeconds", 0)
    if not is_terminating(pod) or not grace:  # without grace somebody has ended it by force, and a finalizer keeps it
        return False
    if is_left_behind(pod, now):
        return is_cut_off(pod)
    if condition_of(pod, "DisruptionTarget").get("reason") != _TAINTED:
        return False
    asked = unix(pod["metadata"]["deletionTimestamp"]) - grace
    is_unknown = not any(_containers(pod)) and now > asked + LEFT_SECONDS
    return is_cut_off(pod) or is_unknown


def first_created(pods: Iterable[Pod]) -> float | None:
    """Unix seconds since when there is one of them that stays; None if there is none."""
    times = (unix(pod["metadata"].get("creationTimestamp")) for pod in pods if not is_terminating(pod))
    return min(times, default=None)


def address(pod: Pod) -> str:
    """Its IP, "" before it has one."""
    return str(pod.get("status", {}).get("podIP", ""))


def has_node(pod: Pod) -> bool:
    """The scheduler has placed it, so its accelerators are taken."""
    return bool(pod.get("spec", {}).get("nodeName")) and pod.get("status", {}).get("phase") in ("Pending", "Running")


def half_placed_since(pods: Iterable[Pod], each: int) -> float | None:
    """Since when they have been nodes for some pods of a replica of `each` and not for the others; None if they are
    not. Pods are equal: those that got their nodes last are the ones too many."""
    since = sorted(unix(condition_of(pod, "PodScheduled").get("lastTransitionTime")) for pod in pods if has_node(pod))
    spare = len(since) % each
    return since[-spare] if spare else None


def waits_for_node(pod: Pod) -> bool:
    """The scheduler has none for it, so it holds nothing and has never run."""
    return _unplaced(pod) is not None


def unschedulable(pods: Iterable[Pod]) -> Unschedulable | None:
    """Since when the scheduler has had no room for a pod, in its own words; the pod that waits longest."""
    waiting = [found for pod in pods if (found := _unplaced(pod)) and not _is_of_volume(found.message)]
    return min(waiting, key=lambda one: one.since, default=None)


def volume_error(pod: Pod, since: float) -> str:
    """What the scheduler says of a volume that has kept the pod from a node since before `since`; "" if none has."""
    found = _unplaced(pod)
    return found.message if found and found.since <= since and _is_of_volume(found.message) else ""


def _unplaced(pod: Pod) -> Unschedulable | None:
    said = condition_of(pod, "PodScheduled")
    if said.get("reason") not in _NO_NODE or is_terminating(pod):
        return None
    gates = ", ".join(gate["name"] for gate in pod.get("spec", {}).get("schedulingGates") or ())
    message = said.get("message", "") + (f": {gates}" if gates else "")
    return Unschedulable(unix(said.get("lastTransitionTime")), message, queued=said.get("reason") == _GATED)


def _is_of_volume(message: str) -> bool:
    """Every kind of nodes lacks a volume only. Where one lacks something else as well, a further node may help."""
    said = _END.split(message.partition(_NODES)[2] or message, maxsplit=1)[0]
    return all(_VOLUME.search(clause) for clause in said.split(", "))


def stands_still(pod: Pod, since: float) -> bool:
    """It has had its node since `since`, and a container of it has never started."""
    scheduled = condition_of(pod, "PodScheduled")
    if is_terminating(pod) or scheduled.get("status") != "True" or unix(scheduled.get("lastTransitionTime")) > since:
        return False
    return any("waiting" in one.get("state", {}) and not one.get("restartCount") for one in _containers(pod))


def start_error(pod: Pod) -> str:
    """What the kubelet says of a container that it cannot make, or whose image it cannot get; "" if it can."""
    states = [container.get("state", {}).get("waiting", {}) for container in _containers(pod)]
    return next((str(one.get("message") or one["reason"]) for one in states if _tells(one)), "")


def _tells(waiting: Mapping[str, Any]) -> bool:
    """An older kubelet forgets the cause while it backs off from pulling; then only an event has it."""
    if waiting.get("reason") in _PULL:
        return bool(_CAUSE.search(waiting.get("message", "")))
    return waiting.get("reason") in _CONFIG


def last_change(pods: Iterable[Pod]) -> float:
    """Unix seconds of the latest thing that happened to any of them; 0 without pods."""
    return max((at for pod in pods for at in _changes(pod)), default=0.0)


def oom_killed(container: str) -> str:
    """What happened to it, and what to do."""
    return f"container {container} used more memory than its limit: {_MORE_MEMORY.get(container, _OF_OTHERS)}"


def failure(pods: Iterable[Pod], now: float, each: int = 1) -> Failure | None:
    """What the first pod in trouble says that no retry will mend. `each`: worker pods of a replica."""
    return next((found for pod in pods if not is_terminating(pod) and (found := _failure(pod, now, each))), None)


def _failure(pod: Pod, now: float, each: int) -> Failure | None:
    for container in _containers(pod):
        state, last = container.get("state", {}), container.get("lastState", {})
        waiting = state.get("waiting", {})
        reason, text = waiting.get("reason", ""), waiting.get("message", "")
        if reason in _HOPELESS or (reason in _PULL and _is_refused(text)):
            message = f"image {container.get('image')}: {text or reason}; correct spec.engine.image or imagePullSecrets"
            return Failure(NO_IMAGE, message[:1000], now)
        ended = state.get("terminated") or last.get("terminated") or {}
        if ended.get("reason") == OOM:
            return Failure(OOM, oom_killed(container["name"]), now)
        if container.get("restartCount", 0) >= CRASHES and _backs_off(state):
            message = f"container {container['name']} ended {container['restartCount']} times: {ended.get('reason')}"
            return Failure(CRASH_LOOP, message, now)
    return _ended_for_good(pod, now, each)


def _ended_for_good(pod: Pod, now: float, each: int) -> Failure | None:
    """A container beside Ray's has ended, and nobody starts it again: KubeRay makes pods whose policy is Never where
    Ray scales (autoscaler v2), and replaces a pod only for its Ray container. The pod is never Ready from then on."""
    if pod.get("spec", {}).get("restartPolicy") != "Never" or not _is_to_be_ready(pod, each):
        return None
    own = {one["name"] for one in pod["spec"].get("containers") or () if one.get("restartPolicy")}
    for container in pod["status"].get("containerStatuses") or ():
        name, ended = container["name"], container.get("state", {}).get("terminated")
        if ended and name not in _RAYS | own:
            message = f"container {name} ended with exit code {ended.get('exitCode')} and is not started again"
            return Failure(ENDED, f"{message}, so that its pod is never Ready: {_PLACES}", now)
    return None


def _is_to_be_ready(pod: Pod, each: int) -> bool:
    """Its Ray container has not ended, and of a replica on several nodes, of whose workers one answers, it is ready."""
    if pod.get("status", {}).get("phase") != "Running":
        return False
    rays = [one for one in pod["status"].get("containerStatuses") or () if one["name"] in _RAYS]
    has_ended = any("terminated" in one.get("state", {}) for one in rays)
    return not has_ended and (each == 1 or any(one.get("ready") for one in rays))


def _backs_off(state: Mapping[str, Any]) -> bool:
    """It ended and will be started again. The kubelet of Kubernetes 1.36 says so only if something makes it look at the
    pod meanwhile (MinBackoffExpiration in pkg/kubelet/pod_workers.go); until then the state is how it ended."""
    has_failed = bool(state.get("terminated", {}).get("exitCode"))
    return has_failed or state.get("waiting", {}).get("reason") == "CrashLoopBackOff"


def _is_refused(text: str) -> bool:
    """The registry has answered that there is no such image, or none for us."""
    return not _LATER.search(text) and bool(_NO_SUCH_IMAGE.search(_NO_ANSWER.sub("", text)))


def _containers(pod: Pod) -> Iterator[Mapping[str, Any]]:
    status = pod.get("status", {})
    yield from status.get("initContainerStatuses") or ()
    yield from status.get("containerStatuses") or ()


def _changes(pod: Pod) -> Iterator[float]:
    yield unix(pod["metadata"].get("creationTimestamp"))
    for said in pod.get("status", {}).get("conditions") or ():
        yield unix(said.get("lastTransitionTime"))
    for container in _containers(pod):
        yield unix(container.get("state", {}).get("running", {}).get("startedAt"))
