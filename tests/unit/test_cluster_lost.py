"""Pods that Kubernetes has given up with their node, and nobody ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sglang_operator.cluster.lost import end_given_up
from sglang_operator.cluster.metadata import stamp
from sglang_operator.cluster.pods import LEFT_SECONDS, is_given_up

NOW, GRACE = 1_000_000.0, 1000
TAINTED = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}
CUT_OFF = ({"type": "Ready", "status": "False"}, {"type": "ContainersReady", "status": "True"})
READY = ({"type": "Ready", "status": "True"}, {"type": "ContainersReady", "status": "True"})
ENDING = ({"type": "Ready", "status": "False"}, {"type": "ContainersReady", "status": "False"})
RUNS = [{"name": "ray-worker", "state": {"running": {}}}]


def pod(
    *conditions: dict[str, str], asked: float | None = 5.0, containers: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """`asked`: seconds since somebody wants it to go, None if nobody does."""
    metadata: dict[str, Any] = {"namespace": "n", "name": "p", "uid": "u", "resourceVersion": "7"}
    metadata["labels"] = {"ray.io/node-type": "worker", "ray.io/cluster": "c"}
    if asked is not None:
        metadata |= {"deletionTimestamp": stamp(NOW - asked + GRACE), "deletionGracePeriodSeconds": GRACE}
    statuses = RUNS if containers is None else containers
    return {"metadata": metadata, "status": {"conditions": list(conditions), "containerStatuses": statuses}}


LOST = {
    "evicted from a lost node": pod(TAINTED, *CUT_OFF),
    "placed there after the loss": pod(TAINTED, asked=LEFT_SECONDS + 1, containers=[]),
    "its time is over, and its node silent": pod(*CUT_OFF, asked=GRACE + LEFT_SECONDS + 1),
}
ENDED_BY_FORCE = pod(TAINTED, *CUT_OFF)
ENDED_BY_FORCE["metadata"]["deletionGracePeriodSeconds"] = 0
NOT_LOST = {
    "somebody has ended it by force, and a finalizer keeps it": ENDED_BY_FORCE,
    "nobody has given it up": pod(*CUT_OFF, asked=None),
    "drained by hand, and it ends": pod(TAINTED, *ENDING),
    "drained by hand, and it has just heard of it": pod(TAINTED, *READY),
    "told to end, while its node is silent": pod(*CUT_OFF),
    "placed there just now": pod(TAINTED, asked=LEFT_SECONDS - 1, containers=[]),
    "its time is over, and its kubelet is slow": pod(*ENDING, asked=GRACE + LEFT_SECONDS + 1),
}


@pytest.mark.parametrize("name", LOST)
def test_what_nobody_will_end(name: str) -> None:
    assert is_given_up(LOST[name], NOW)


@pytest.mark.parametrize("name", NOT_LOST)
def test_what_ends_by_itself_or_comes_back(name: str) -> None:
    assert not is_given_up(NOT_LOST[name], NOW)


class Deletions:
    """Takes what an Api would be asked to delete."""

    def __init__(self) -> None:
        self.made: list[tuple[str, dict[str, Any]]] = []

    async def delete(self, path: str, **fence: Any) -> None:
        self.made.append((path, fence))


def test_they_are_deleted_by_force_and_only_as_they_were_read() -> None:
    api, labelled_by_hand = Deletions(), pod(TAINTED, *CUT_OFF)
    labelled_by_hand["metadata"]["labels"] = {}
    pods = [*NOT_LOST.values(), labelled_by_hand, LOST["evicted from a lost node"]]
    asyncio.run(end_given_up(api, pods, NOW))  # type: ignore[arg-type]
    assert api.made == [("/api/v1/namespaces/n/pods/p", {"uid": "u", "version": "7", "by_force": True})]
