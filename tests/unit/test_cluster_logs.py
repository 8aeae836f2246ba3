"""Logs: what they say of a start, and how they are read."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from unit.test_cluster_pods import pod

from sglang_operator.cluster.logs import KEPT_LINES, LIMIT_BYTES, parse_log, read_log


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


@pytest.mark.parametrize(
    "odd",
    [
        '{"time": "2026-01-01T00:00:00.000+00:00", "event": "prog',
        '{"time": ' + "[" * 50_000,
        '{"time": "2026-01-01T00:00:00Z", "event": "progress", "n": ' + "9" * 5000 + "}",
        '{"time": "0001-01-01T00:00:00Z", "event": "progress", "step": "load"}',
        '{"time": "9999-12-31T23:59:59-12:00", "event": "progress", "step": "load"}',
        '{"time": "2026-01-01T00:00:00Z"}',
    ],
    ids=["half", "brackets", "digits", "year 1", "year 10000", "nothing"],
)
def test_an_odd_line_is_no_event_and_hides_none(odd: str) -> None:
    assert parse_log(odd).step == ""
    assert parse_log("\n".join([line("progress", step="model"), odd])).step == "model"


@pytest.mark.parametrize("odd", [[1], {"a": 1}, 7, True, None, ""])
@pytest.mark.parametrize("field", ["event", "step", "message", "reason", "remedy"])
def test_a_field_of_another_kind_is_no_error(field: str, odd: object) -> None:
    for event, step in (("progress", "failed"), ("progress", "load"), ("engine_died", "")):
        fields = {"event": event, "step": step, "message": "m", "reason": "BadArgument", field: odd}
        said = parse_log(json.dumps({"time": "2026-01-01T00:00:00.000+00:00", **fields}))
        assert said.failure is None or isinstance(said.failure.reason, str)


def test_what_is_told_has_room_in_status() -> None:
    long = {"message": "m" * 40_000, "reason": "R" * 40_000, "remedy": "r" * 40_000}
    said = parse_log(line("progress", step="failed", **long))
    assert said.failure is not None
    assert said.failure.message == f"{'m' * 4000}; {'r' * 4000}"
    assert len(said.mishap) < 32_768 / 2
    assert (len(said.message), len(said.failure.reason)) == (4000, 100)


def test_a_failure_without_a_reason_has_a_name() -> None:
    failure = parse_log(line("progress", step="failed", message="m")).failure
    assert failure is not None
    assert (failure.reason, failure.message) == ("EngineFailed", "m")


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
    assert told is not None
    assert len(told) <= LIMIT_BYTES
    assert parse_log(told).failure is not None
