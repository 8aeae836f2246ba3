"""Pods: what they say of a revision."""

from __future__ import annotations

from typing import Any

import pytest

from sglang_operator.cluster import pods

NOW = 1000.0


def pod(**status: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "p",
            "namespace": "default",
            "labels": {"ray.io/node-type": "worker"},
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {"nodeName": "node"},
        "status": {"phase": "Pending", **status},
    }


RUNNING = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}


def waiting(reason: str, message: str = "", restarts: int = 0, ended: str = "") -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    container = {"name": "ray-worker", "image": "i", "state": state, "restartCount": restarts}
    return pod(containerStatuses=[{**container, "lastState": {"terminated": {"reason": ended}} if ended else {}}])


def ended(code: int, restarts: int) -> dict[str, Any]:
    """Until the kubelet starts it again."""
    state = {"terminated": {"exitCode": code, "reason": "Error" if code else "Completed"}}
    return pod(initContainerStatuses=[{"name": "waits", "image": "i", "state": state, "restartCount": restarts}])


@pytest.mark.parametrize(
    ("troubled", "reason"),
    [
        (waiting("ErrImageNeverPull", "not present with pull policy of Never"), "ImagePullFailed"),
        (waiting("ImagePullBackOff", "failed to resolve reference: i: not found"), "ImagePullFailed"),
        (waiting("InvalidImageName"), "ImagePullFailed"),
        (waiting("CrashLoopBackOff", restarts=5, ended="Error"), "CrashLoop"),
        (ended(1, restarts=3), "CrashLoop"),
        (waiting("CrashLoopBackOff", restarts=1, ended="OOMKilled"), "OOMKilled"),
    ],
)
def test_what_no_retry_mends_is_a_failure(troubled: dict[str, Any], reason: str) -> None:
    found = pods.failure([pod(), troubled], NOW)
    assert found is not None
    assert (found.reason, found.at) == (reason, NOW)


def beside(
    code: int, policy: str = "Never", phase: str = "Running", name: str = "mine", ray: Any = RUNNING, **spec: Any
) -> dict[str, Any]:
    """Of its containers Ray's runs, and the other one has ended."""
    state = {"terminated": {"exitCode": code, "reason": "Error" if code else "Completed"}}
    statuses = [{"name": name, "image": "i", "state": state}, {"name": "ray-worker", "image": "i", "state": ray}]
    found = pod(containerStatuses=statuses, phase=phase)
    return {**found, "spec": {"restartPolicy": policy, "containers": [{"name": name, **spec}, {"name": "ray-worker"}]}}


@pytest.mark.parametrize("code", [0, 1])
def test_a_container_that_nobody_starts_again_is_a_failure(code: int) -> None:
    found = pods.failure([beside(code)], NOW)
    assert found is not None
    assert found.reason == "ContainerEnded"
    assert found.message.startswith(f"container mine ended with exit code {code} and is not started again")


def test_of_a_replica_on_several_nodes_one_worker_is_ever_ready() -> None:
    """The others serve without being so."""
    other = beside(1)
    assert pods.failure([other], NOW, each=2) is None
    other["status"]["containerStatuses"][1]["ready"] = True
    assert pods.failure([other], NOW, each=2) is not None


@pytest.mark.parametrize(
    "other",
    [
        beside(1, "Always"),
        beside(1, restartPolicy="Always"),
        beside(1, phase="Failed"),  # KubeRay makes another pod
        beside(1, name="ray-worker"),
        beside(1, name="autoscaler"),
        beside(1, ray={"terminated": {"exitCode": 137}}),  # that is what happened, and what KubeRay replaces it for
    ],
)
def test_a_container_that_somebody_starts_again_is_none(other: dict[str, Any]) -> None:
    assert pods.failure([other], NOW) is None


@pytest.mark.parametrize(
    ("container", "field"),
    [("ray-head", "spec.head.memory"), ("ray-worker", "spec.resources.memory"), ("mine", "spec.podTemplate")],
)
def test_out_of_memory_names_the_field_of_the_container(container: str, field: str) -> None:
    assert field in pods.oom_killed(container)


@pytest.mark.parametrize(
    "calm",
    [
        waiting("ContainerCreating"),
        waiting("ErrImagePull", "dial tcp: i/o timeout"),  # the registry is away
        waiting("CrashLoopBackOff", restarts=1, ended="Error"),
        ended(1, restarts=2),
        ended(0, restarts=5),
        pod(),
    ],
)
def test_what_a_retry_may_mend_is_none(calm: dict[str, Any]) -> None:
    assert pods.failure([calm], NOW) is None


def pull_error(said: str) -> str:
    """As the kubelet hands on what containerd could not do."""
    resolve = 'failed to pull and unpack image "r/i:t": failed to resolve reference "r/i:t"'
    return f"rpc error: code = Unknown desc = {resolve}: {said}"


LOCAL_NAME = 'failed to pull and unpack image "denied/not found:1": failed to resolve reference "denied/not found:1": '


@pytest.mark.parametrize(
    "said",
    [
        pull_error("r/i:t: not found"),
        pull_error("r/i:1.0-SNAPSHOT: not found"),
        pull_error("pull access denied, repository does not exist or may require authorization"),
        pull_error("authorization failed: no basic auth credentials"),
        pull_error("unexpected status from HEAD request to https://r/v2/i/manifests/t: 403 Forbidden"),
        pull_error(
            "failed to authorize: failed to fetch anonymous token: unexpected status from GET request to "
            "https://r/token?scope=repository%3Ai%3Apull: 401 Unauthorized"
        ),
        'failed to pull and unpack image "r/i:t": no match for platform in manifest: not found',
        "reading manifest t in r/i: manifest unknown",  # CRI-O
        'Back-off pulling image "r/i:t": ErrImagePull: ' + pull_error("r/i:t: not found"),
    ],
)
def test_an_image_that_the_registry_refuses_is_a_failure(said: str) -> None:
    found = pods.failure([waiting("ErrImagePull", said)], NOW)
    assert found is not None
    assert found.reason == "ImagePullFailed"
    assert said in found.message


@pytest.mark.parametrize(
    "said",
    [
        pull_error("unexpected status from HEAD request to https://r/v2/i/manifests/t: 503 Service Unavailable"),
        pull_error("unexpected status from HEAD request to https://r/v2/denied/manifests/t: 429 Too Many Requests"),
        pull_error("failed to do request: Head https://r/v2/i/manifests/t: dial tcp 192.0.2.1:443: i/o timeout"),
        pull_error("failed to do request: Head https://r/v2/i/manifests/t: dial tcp: lookup r: no such host"),
        pull_error("failed to do request: Head https://r/v2/i/manifests/t: net/http: TLS handshake timeout"),
        pull_error("failed to authorize: failed to fetch oauth token: unexpected status from GET request: 502"),
        LOCAL_NAME + "dial tcp 192.0.2.1:443: connect: connection refused",
        'failed to pull and unpack image "r/i:t": failed to copy: httpReadSeeker: failed open: unexpected status code '
        "https://r/v2/i/blobs/sha256:0: 401 Unauthorized",
        'failed to pull and unpack image "r/i:t": failed to extract layer sha256:0: parent snapshot: not found',
        'Back-off pulling image "r/i:t"',
    ],
)
def test_a_registry_that_is_away_or_busy_is_waited_for(said: str) -> None:
    assert pods.failure([waiting("ErrImagePull", said)], NOW) is None
    assert pods.failure([waiting("ImagePullBackOff", said)], NOW) is None


def test_a_pull_that_is_tried_again_is_explained() -> None:
    said = pull_error("dial tcp 192.0.2.1:443: i/o timeout")
    assert pods.start_error(waiting("ErrImagePull", said)) == said
    assert pods.start_error(waiting("ImagePullBackOff", 'Back-off pulling image "r/i:t"')) == ""


def test_a_pod_on_its_way_out_has_no_say() -> None:
    going = waiting("InvalidImageName")
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert pods.failure([going], NOW) is None


def test_the_scheduler_is_quoted() -> None:
    said = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
        "lastTransitionTime": "2026-01-01T00:00:10Z",
    }
    found = pods.unschedulable([pod(), pod(conditions=[said])])
    assert found is not None
    assert found.message == said["message"]
    assert found.since == pods.last_change([pod(conditions=[said])])


def unscheduled(message: str, reason: str = "Unschedulable", *gates: str) -> dict[str, Any]:
    said = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
    found = pod(conditions=[{**said, "lastTransitionTime": "2026-01-01T00:00:10Z"}])
    return found | {"spec": {"schedulingGates": [{"name": gate} for gate in gates]}}


OF_VOLUME = "6 node(s) had volume node affinity conflict"
NO_ROOM = "preemption: 0/9 nodes are available: 9 Preemption is not helpful for scheduling."


@pytest.mark.parametrize(
    ("said", "of_volume"),
    [
        (f"0/9 nodes are available: 3 Insufficient nvidia.com/gpu, {OF_VOLUME}. {NO_ROOM}", False),
        (f"0/6 nodes are available: {OF_VOLUME}. {NO_ROOM}", True),
        (f"0/6 nodes are available: {OF_VOLUME}. no new claims to deallocate, {NO_ROOM}", True),
        (f"0/9 nodes are available: 3 node(s) didn't match PersistentVolume's node affinity, {OF_VOLUME}.", True),
        ("0/4 nodes are available: pod has unbound immediate PersistentVolumeClaims. preemption: not eligible", True),
        (f"0/9 nodes are available: 9 Insufficient nvidia.com/gpu. {NO_ROOM}", False),
    ],
)
def test_only_what_every_node_lacks_for_a_volume_is_of_the_volume(said: str, of_volume: bool) -> None:
    waits = unscheduled(said)
    assert (pods.unschedulable([waits]) is None) is of_volume
    assert bool(pods.volume_error(waits, pods.last_change([waits]))) is of_volume


def test_a_pod_that_must_not_be_scheduled_yet_has_no_node() -> None:
    """As Kueue's of an elastic job: it has no quota, and the reader is told who keeps it."""
    gated = unscheduled("Scheduling is blocked", "SchedulingGated", "kueue.x-k8s.io/elastic-job")
    found = pods.unschedulable([gated])
    assert found is not None
    assert found.message == "Scheduling is blocked: kueue.x-k8s.io/elastic-job"
    assert found.since == pods.last_change([gated])


def placed(second: int) -> dict[str, Any]:
    at = f"2026-01-01T00:00:{second:02d}Z"
    said = {"type": "PodScheduled", "status": "True", "lastTransitionTime": at}
    found = pod(conditions=[said])
    return found | {"spec": {"nodeName": "n"}, "status": {**found["status"], "phase": "Running"}}


@pytest.mark.parametrize(
    ("seconds", "each", "since"),
    [([10, 20, 30], 2, 30), ([30, 10, 20], 2, 30), ([10, 20, 30, 40, 50], 3, 40), ([10, 20], 2, None), ([10], 1, None)],
)
def test_half_a_replica_is_what_got_its_nodes_last(seconds: list[int], each: int, since: int | None) -> None:
    waits = unscheduled("0/9 nodes are available: 9 Insufficient nvidia.com/gpu.")
    found = pods.half_placed_since([waits, *map(placed, seconds)], each)
    assert found == (None if since is None else pods.last_change([placed(since)]))
    assert [pods.waits_for_node(one) for one in (waits, placed(10))] == [True, False]


def unbound(since: str) -> dict[str, Any]:
    message = 'persistentvolumeclaim "absent" not found'
    return {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": message,
        "lastTransitionTime": since,
    }


def test_a_volume_that_is_not_there_is_no_lack_of_nodes() -> None:
    waits = pod(conditions=[unbound("2026-01-01T00:00:10Z")])
    since = pods.last_change([waits])
    assert pods.unschedulable([waits]) is None
    assert "absent" in pods.volume_error(waits, since)
    assert pods.volume_error(waits, since - 1) == "", "a claim may take a moment to be bound"
