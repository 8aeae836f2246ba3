"""What keeps pods from starting: whose events are read, and which of them tells."""

from __future__ import annotations

from typing import Any

import pytest

from sglang_operator.cluster import complaints, pods
from sglang_operator.cluster.metadata import stamp

NOW = 2_000_000_000.0
Json = dict[str, Any]


def at(seconds_ago: float) -> str:
    return stamp(NOW - seconds_ago)


def pod(kind: str = "worker", *, placed: float | None = 60, **state: Any) -> Json:
    labels = {"ray.io/node-type": kind, "ray.io/cluster": "c"}
    scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": at(placed or 0)}
    status = {
        "conditions": [scheduled] if placed is not None else [],
        "containerStatuses": [{"name": "ray", "state": state or {"waiting": {"reason": "ContainerCreating"}}}],
    }
    return {"metadata": {"name": kind, "namespace": "n", "uid": kind, "labels": labels}, "status": status}


def cluster(age: float = 60, **metadata: str) -> Json:
    """KubeRay writes no status before the head Service is there, which may be what it cannot make."""
    return {"metadata": {"name": "c", "namespace": "n", "uid": "c", "creationTimestamp": at(age), **metadata}}


def event(message: str, ago: float, reason: str = "FailedMount", kind: str = "Warning") -> Json:
    return {"type": kind, "reason": reason, "message": message, "lastTimestamp": at(ago)}


RUNNING: Json = {"running": {"startedAt": at(5)}}


def names(found: list[Any]) -> list[str]:
    return [one["metadata"]["name"] for one in found]


def test_a_pod_that_starts_nothing_is_asked_about() -> None:
    both = [pod("head", **RUNNING), pod()]
    assert names(complaints.suspects(both, [cluster()], NOW)) == ["worker"]


@pytest.mark.parametrize("calm", [pod(placed=5), pod(placed=None), pod(**RUNNING)], ids=["fresh", "no node", "runs"])
def test_a_pod_that_does_or_waits_elsewhere_is_not(calm: Json) -> None:
    assert complaints.suspects([pod("head", **RUNNING), calm], [cluster()], NOW) == []


def test_a_pod_of_which_one_container_lacks_something_is_asked_about() -> None:
    """As a head is, whose autoscaler runs. The kubelet's reason comes and goes; its events stay."""
    lacking = pod("head")
    lacking["status"]["containerStatuses"].insert(0, {"name": "autoscaler", "state": RUNNING})
    assert names(complaints.suspects([lacking, pod(**RUNNING)], [cluster()], NOW)) == ["head"]


def test_a_cluster_without_its_pods_is_asked_about() -> None:
    assert names(complaints.suspects([], [cluster()], NOW)) == ["c"]
    assert names(complaints.suspects([pod("head", **RUNNING)], [cluster()], NOW)) == ["c"]
    assert complaints.suspects([], [cluster(age=5)], NOW) == []
    assert complaints.suspects([], [cluster(deletionTimestamp=at(1))], NOW) == []


def test_the_latest_warning_counts() -> None:
    told = [
        event('secret "old" not found', 50),
        event('secret "k" not found', 3),
        event("0/1 nodes are available", 1, "FailedScheduling"),
        event("pulled", 1, "Pulled", "Normal"),
    ]
    assert complaints.latest(told, NOW) == 'secret "k" not found'
    assert complaints.latest([event("long ago", 5000)], NOW) == ""


def test_the_cause_of_a_pull_that_fails_is_told_and_not_that_it_fails() -> None:
    cause = 'Failed to pull image "r/i:t": dial tcp 192.0.2.1:443: i/o timeout'
    told = [event(cause, 9, "Failed"), event("Error: ErrImagePull", 9, "Failed"), event("Error: ImagePullBackOff", 2)]
    assert complaints.latest(told, NOW) == cause


def test_an_event_of_a_series_has_its_time_there() -> None:
    series = {"type": "Warning", "reason": "FailedMount", "message": "m", "series": {"lastObservedTime": at(2)}}
    assert complaints.latest([{**series, "eventTime": at(5000), "lastTimestamp": None}], NOW) == "m"


def test_what_a_container_lacks_is_told_and_is_no_failure() -> None:
    lacking = pod(waiting={"reason": "CreateContainerConfigError", "message": 'secret "redis" not found'})
    assert pods.start_error(lacking) == 'secret "redis" not found'
    assert pods.failure([lacking], NOW) is None
