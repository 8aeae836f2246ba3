"""Which logs a pass reads, and how long it waits for them: a node that has died never answers."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from unit.test_cluster_looks import START, A, Asked, B, snapshot, worker

from sglang_operator.cluster import logs
from sglang_operator.cluster import observe as observing
from sglang_operator.cluster.api import TIMEOUT_SECONDS
from sglang_operator.cluster.ends import Ends
from sglang_operator.cluster.logs import READ_SECONDS, UNREAD, Said
from sglang_operator.cluster.metadata import unix
from sglang_operator.cluster.observe import observe

FAILED = {"event": "progress", "step": "failed", "message": "m", "reason": "BadArgument", "remedy": "r"}
TOLD = json.dumps({"time": "2026-01-01T00:01:00Z", **FAILED})


class Nodes:
    """Answers for the logs of pods by their names; a node without one never does."""

    def __init__(self, **lines: str) -> None:
        self.lines = lines
        self.asked: list[str] = []

    async def text(self, path: str, **_query: str) -> str:
        name = path.split("/")[-2]
        self.asked.append(name)
        if name not in self.lines:
            await asyncio.sleep(60)
        return self.lines[name]


def placed(name: str, ready: str = "False", containers: str = "False", reason: str = "", **metadata: Any) -> Any:
    said = [{"type": "Ready", "status": ready, "reason": reason}, {"type": "ContainersReady", "status": containers}]
    status = {"phase": "Running", "conditions": said}
    return {"metadata": {"name": name, "namespace": "d", **metadata}, "spec": {"nodeName": "n"}, "status": status}


def listen(nodes: Nodes, *pods: Any) -> Said:
    return asyncio.run(observing._listen(nodes, pods))  # type: ignore[arg-type]


def test_dead_nodes_cost_a_pass_one_limit_together(monkeypatch: pytest.MonkeyPatch) -> None:
    assert READ_SECONDS < TIMEOUT_SECONDS / 5
    monkeypatch.setattr(logs, "READ_SECONDS", 0.5)
    began = time.monotonic()
    said = listen(Nodes(c=TOLD), placed("a"), placed("b"), placed("c"))
    assert time.monotonic() - began < 2 * logs.READ_SECONDS
    assert said.failure is not None, "one that answers is heard all the same"


def test_the_latest_progress_of_any_counts_and_the_first_tells_why() -> None:
    """Nothing is overdue while one of them goes on; and one that is Ready must not hide why another one is not."""

    def line(at: str, step: str, message: str) -> str:
        return json.dumps({"time": f"2026-01-01T{at}Z", "event": "progress", "step": step, "message": message})

    logs = {"a": line("10:00:00", "load", "starting"), "b": line("10:20:00", "model", "downloading m: 90.0 GiB of 100")}
    said = [listen(Nodes(**logs), *map(placed, order)) for order in ("ab", "ba")]
    assert [one.step for one in said] == ["load", "model"]
    assert said[0].at == said[1].at == unix("2026-01-01T10:20:00Z")


def test_a_log_that_cannot_be_read_in_time_is_not_one_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "READ_SECONDS", 0.01)
    assert listen(Nodes(), placed("a")) is UNREAD
    assert listen(Nodes(a=""), placed("a")) == Said()


@pytest.mark.parametrize(
    ("gone", "is_asked"),
    [
        (placed("a", deletionTimestamp="2026-01-01T00:00:00Z"), False),
        (placed("a", containers="True"), False),  # as the node's controller leaves a pod whose node is silent
        (placed("a") | {"status": {**placed("a")["status"], "reason": "NodeLost"}}, False),
        (placed("a", containers="True", reason="ReadinessGatesNotReady"), True),
        (placed("a"), True),
        (placed("a", ready="True", containers="True"), True),
    ],
)
def test_pods_that_end_and_those_of_silent_nodes_are_not_asked(gone: Any, is_asked: bool) -> None:
    nodes = Nodes(a="", b=TOLD)
    assert listen(nodes, gone, placed("b")).failure is not None
    assert nodes.asked.count("a") == is_asked
    assert nodes.asked.count("b") == 1


def test_nothing_is_overdue_by_a_log_that_was_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_ends(*_: object) -> Ends:
        return Ends()

    async def silence(*_: object) -> str:
        return ""

    monkeypatch.setattr(logs, "READ_SECONDS", 0.01)
    monkeypatch.setattr(observing, "read_complaint", silence)
    monkeypatch.setattr(observing, "read_ends", no_ends)
    slow = worker(B, "slow", ready="False")
    slow["metadata"]["namespace"] = "d"

    def progress(nodes: Nodes) -> float | None:
        seen = observe(nodes, Asked(**{"10_0_0_1": 0}), snapshot(slow, worker(A, "10.0.0.1")), B, START + 100)  # type: ignore[arg-type]
        return asyncio.run(seen).observed.get(B).live.progress

    assert progress(Nodes()) is None
    assert progress(Nodes(slow="")) == START + 95
