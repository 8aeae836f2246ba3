"""Which pods of a revision clients' streams may be on, and what is in flight on them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sglang_operator.cluster import pods as of_pods
from sglang_operator.cluster.metadata import condition_of, unix
from sglang_operator.cluster.probe import Held, Report
from sglang_operator.lifecycle.observed import Front

Pod = Mapping[str, Any]


def may_hold_streams(pod: Pod) -> bool:
    """Its front is Ready, or was since its container started.

    One that the kubelet calls Ready no more, or that is on its way out, goes on with the streams that it has. One that
    was never Ready has had none, and a container that started anew has lost them.
    """
    ready = condition_of(pod, "Ready")
    if ready.get("status") == "True":
        return True
    started = [unix(began) for began in _started(pod)]
    return bool(started) and unix(ready.get("lastTransitionTime")) > min(started)


def unready_since(pods: Iterable[Pod]) -> float | None:
    """Since when the kubelet calls none of them Ready; None if it calls one so, or there is none."""
    said = [condition_of(pod, "Ready") for pod in pods]
    if any(one.get("status") == "True" for one in said):
        return None
    return max((unix(one.get("lastTransitionTime")) for one in said), default=None)


def front_of(pods: Iterable[Pod], reports: Iterable[Report], head: Held | None, now: float) -> Front | None:
    """What is in flight; None unless every one of `pods` has told. A head that holds requests has no replica, so it
    tells for all."""
    told = (head,) if head else tuple(reports)
    heard = {report.node for report in reports}
    if not told or not (head or all(of_pods.address(pod) in heard for pod in pods)):
        return None
    busy = sum(one.in_flight for one in told)
    return Front(busy, quiet_since=None if busy else now - min(one.idle_seconds for one in told))


def _started(pod: Pod) -> Iterable[str]:
    for container in pod.get("status", {}).get("containerStatuses") or ():
        if "running" in container.get("state", {}):
            yield container["state"]["running"].get("startedAt", "")
