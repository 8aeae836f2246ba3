"""When what keeps an endpoint from serving began, by the clock of whoever saw it first; whether status says it in time.

Each cause is Unix seconds, 0 while it has not come. The cluster's own times are whole seconds, rounded down.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from cluster.actors import User
from localcluster.kubectl import Refused, until

from sglang_operator.cluster.metadata import condition_of, unix
from sglang_operator.cluster.pods import CRASHES

IN_TIME: Final = 15.0
LOOK_SECONDS: Final = 0.5  # each look is a kubectl
FAILED: Final = '"step": "failed"'
WORKERS: Final = "--selector=ray.io/node-type=worker"
Cause = Callable[[User], float]
Object = dict[str, Any]


def require_in_time(user: User, began: float, says: tuple[str, str], text: str) -> None:
    """Condition and reason of `says` with the text, within 15 s of the cause, however busy the machine is."""
    kind, reason = says

    def is_said() -> bool:
        found = user.condition(kind)
        return (found.get("status"), found.get("reason")) == ("True", reason) and text in found["message"]

    left = began + IN_TIME - time.time()
    until(is_said, left, lambda: f"{says} {text}: {json.dumps(user.status, indent=1)}", LOOK_SECONDS)
    print(f"{reason}, {text!r}: {time.time() - began:.1f} s after its cause")


def unplaced(user: User) -> float:
    """The scheduler has no node for a worker."""
    said = (condition_of(pod, "PodScheduled") for pod in user.read("pods", WORKERS)["items"])
    return _first(unix(one.get("lastTransitionTime")) for one in said if one.get("status") == "False")


def refused(user: User) -> float:
    """KubeRay may not make a pod."""
    fields = "--field-selector=involvedObject.kind=RayCluster,type=Warning"
    events = user.read("events", fields)["items"]
    return _first(unix(one.get("firstTimestamp") or one.get("eventTime")) for one in events)


def ended(container: str) -> Cause:
    """A worker's container has ended."""

    def when(user: User) -> float:
        return _first(map(_end, _named(user, container)))

    return when


def crashed(container: str) -> Cause:
    """A worker's container has ended so often that the next start waits."""

    def when(user: User) -> float:
        return _first(_end(one) for one in _named(user, container) if one["restartCount"] >= CRASHES)

    return when


def failed_to_start(user: User) -> float:
    """A replica has said in its log why it cannot start."""
    try:
        log = user.run("logs", WORKERS, "--container=ray-worker", "--timestamps", "--tail=-1")
    except Refused:  # no container has begun
        return 0.0
    return _first(unix(line.partition(" ")[0]) for line in log.splitlines() if FAILED in line)


def _named(user: User, container: str) -> list[Object]:
    """What the kubelets say of the workers' containers of that name."""
    pods = user.read("pods", WORKERS)["items"]
    kinds = ("initContainerStatuses", "containerStatuses")
    statuses = (one for pod in pods for kind in kinds for one in pod["status"].get(kind, ()))
    return [one for one in statuses if one["name"] == container]


def _end(container: Object) -> float:
    """When it ended last; 0 while it runs."""
    states = () if "running" in container["state"] else (container["state"], container.get("lastState", {}))
    return max((unix(state.get("terminated", {}).get("finishedAt")) for state in states), default=0.0)


def _first(times: Iterable[float]) -> float:
    return min((one for one in times if one), default=0.0)
