"""Pods and logs: what they say of a revision."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from sglang_operator.cluster import pods
from sglang_operator.cluster.logs import KEPT_LINES, LIMIT_BYTES, parse_log, read_log

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


def waiting(reason: str, message: str = "", restarts: int = 0, ended: str = "") -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    container = {"name": "ray-worker", "image": "i", "state": state, "restartCount": restarts}
    return pod(containerStatuses=[{**container, "lastState": {"terminated": {"reason": ended}} if ended else {}}])


@pytest.mark.parametrize(
    ("troubled", "reason"),
    [
        (waiting("ErrImageNeverPull", "not present with pull policy of Never"), "ImagePullFailed"),
        (waiting("ImagePullBackOff", "failed to resolve reference: i: not found"), "ImagePullFailed"),
        (waiting("InvalidImageName"), "ImagePullFailed"),
        (waiting("CrashLoopBackOff", restarts=5, ended="Error"), "CrashLoop"),
        (waiting("CrashLoopBackOff", restarts=1, ended="OOMKilled"), "OOMKilled"),
    ],
)
def test_what_no_retry_mends_is_a_failure(troubled: dict[str, Any], reason: str) -> None:
    found = pods.failure([pod(), troubled], NOW)
    assert found is not None
    assert (found.reason, found.at) == (reason, NOW)


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


def line(event: str, **fields: Any) -> str:
    return json.dumps({"time": "2026-01-01T00:00:00.000+00:00", "event": event, **fields})


def test_a_log_tells_the_latest_step() -> None:
    said = parse_log("\n".join([line("progress", step="model"), "noise", line("progress", step="load", message="m")]))
    assert (said.step, said.message, said.failure) == ("load", "m", None)
    assert said.at > 0


def test_a_log_tells_why_a_replica_cannot_start_and_keeps_its_end() -> None:
    failed = line("progress", step="failed", message="unknown argument", reason="BadArgument", remedy="correct it")
    said = parse_log("\n".join([*map(str, range(100)), failed]))
    assert said.failure is not None
    assert said.failure.reason == "BadArgument"
    assert said.failure.message == "unknown argument; correct it"
    assert len(said.failure.log_tail) == KEPT_LINES
    assert "BadArgument" in said.failure.log_tail[-1]


def test_a_download_is_tried_again() -> None:
    assert parse_log(line("progress", step="failed", message="x", reason="DownloadFailed", remedy="y")).failure is None


@pytest.mark.parametrize(("deaths", "fails"), [(2, False), (3, True)])
def test_an_engine_that_dies_again_and_again_is_a_failure(deaths: int, fails: bool) -> None:
    said = parse_log("\n".join([line("engine_died", message="process 7 ended")] * deaths))
    assert (said.failure is not None) is fails


def died_at(*times: str) -> list[str]:
    """Each after it had been ready."""
    steps = ("progress", {"step": "ready"}), ("engine_died", {"message": "process 7 ended"})
    return [json.dumps({"time": f"{at}+00:00", "event": name, **said}) for at in times for name, said in steps]


def test_engines_that_die_once_in_a_while_are_no_failure() -> None:
    weekly = died_at("2026-01-01T00:00:00.000", "2026-01-08T00:00:00.000", "2026-01-15T00:00:00.000")
    assert parse_log("\n".join(weekly)).failure is None
    hourly = died_at("2026-01-01T00:00:00.000", "2026-01-01T00:20:00.000", "2026-01-01T00:40:00.000")
    found = parse_log("\n".join(hourly)).failure
    assert found is not None
    assert found.reason == "EngineCrashed"


def test_what_a_later_try_has_mended_is_no_failure() -> None:
    """Another replica may be missing; this one serves."""
    ready = line("progress", step="ready")
    failed = line("progress", step="failed", message="no memory", reason="OutOfMemory", remedy="wait")
    assert parse_log("\n".join([failed, ready])).failure is None
    assert parse_log("\n".join([*[line("engine_died", message="m")] * 3, ready])).failure is None
    assert parse_log("\n".join([failed, ready, failed])).failure is not None


def test_an_engine_that_died_is_explained_until_the_next_one_is_ready() -> None:
    died = line("engine_died", message="CUDA out of memory", reason="OutOfMemory", remedy="use less")
    assert parse_log(died).mishap == "OutOfMemory: CUDA out of memory; use less"
    assert parse_log("\n".join([died, line("progress", step="load")])).mishap.startswith("OutOfMemory")
    assert parse_log("\n".join([died, line("progress", step="ready")])).mishap == ""


def test_a_download_that_is_tried_again_is_explained() -> None:
    said = parse_log(line("progress", step="failed", message="refused", reason="DownloadFailed", remedy="look"))
    assert (said.failure, said.mishap) == (None, "DownloadFailed: refused; look")


def test_trying_again_is_no_progress() -> None:
    def at(second: int, **fields: Any) -> str:
        return json.dumps({"time": f"2026-01-01T00:00:{second:02}.000+00:00", "event": "progress", **fields})

    first = [at(1, step="model"), at(2, step="failed", reason="DownloadFailed")]
    again = [at(10, step="backoff"), at(20, step="model"), at(21, step="failed", reason="DownloadFailed")]
    assert parse_log("\n".join([*first, *again])).at == parse_log("\n".join(first)).at
    assert parse_log("\n".join([*first, *again])).step == "failed"
    served = [*first, at(30, step="ready"), at(40, step="model")]
    assert parse_log("\n".join(served)).at == parse_log(at(40, step="model")).at


@pytest.mark.parametrize("time", ["noon", 7])
def test_a_line_without_a_time_is_no_event(time: object) -> None:
    """Whatever runs in the pod may write there."""
    assert parse_log(json.dumps({"time": time, "event": "progress", "step": "load"})).step == ""


def test_half_a_line_is_no_event() -> None:
    assert parse_log('{"time": "2026-01-01T00:00:00.000+00:00", "event": "prog').step == ""


class Kubelet:
    """Answers for logs: the last lines, and of those the first bytes."""

    def __init__(self, *lines: str) -> None:
        self.lines = lines

    async def text(self, path: str, *, container: str, tailLines: str, limitBytes: str) -> str:  # noqa: N803 - as the API
        assert (path, container) == ("/api/v1/namespaces/default/pods/p/log", "ray-worker")
        return "\n".join(self.lines[-int(tailLines) :])[: int(limitBytes)]


@pytest.mark.parametrize("noise", ["x", "x" * (LIMIT_BYTES // 100)])
def test_a_log_is_read_to_its_end_and_never_whole(noise: str) -> None:
    failed = line("progress", step="failed", message="m", reason="BadArgument", remedy="r")
    told = asyncio.run(read_log(Kubelet(*[noise] * 350, failed), pod()))  # type: ignore[arg-type]
    assert len(told) <= LIMIT_BYTES
    assert parse_log(told).failure is not None
