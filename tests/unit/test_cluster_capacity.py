"""What is said of nodes before there is a pod."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from unit.rendered import render

from sglang_operator.cluster.api import ApiError
from sglang_operator.cluster.capacity import KNOWN_SECONDS, Need, Nodes, advice, need_of, unread

GPU = "nvidia.com/gpu"


def node(count: int | str, resource: str = GPU, **labels: str) -> dict[str, Any]:
    return {"metadata": {"labels": labels}, "status": {"allocatable": {resource: str(count)}}}


@pytest.mark.parametrize(
    ("need", "said"),
    [
        (Need(GPU, 4, 1, {}), None),
        (Need(GPU, 8, 1, {}), "a replica needs 8 nvidia.com/gpu on one node, and the largest node has 4"),
        (Need(GPU, 4, 2, {}), None),
        (Need(GPU, 4, 3, {}), "needs 4 nvidia.com/gpu on each of 3 nodes, and 2 nodes have that"),
        (Need(GPU, 4, 1, {"pool": "b"}), "and the largest node with pool=b has 2"),
        (Need("amd.com/gpu", 1, 1, {}), "and the largest node has 0"),
    ],
)
def test_it_is_said_where_too_few_nodes_offer_enough(need: Need, said: str | None) -> None:
    nodes = [node(4, pool="a"), node(4, pool="a"), node(2, pool="b"), {"metadata": {}, "status": {}}, node("1k")]
    found = advice(need, nodes)
    assert (found is None) == (said is None)
    assert found is None or str(said) in found.message


def test_what_a_replica_needs_is_read_from_what_is_rendered() -> None:
    spec: Any = {
        "accelerator": {"vendor": "nvidia", "count": 4},
        "parallelism": {"tensor": 8, "nodes": 2},
        "scheduling": {"nodeSelector": {"pool": "a"}},
    }
    assert need_of(render(**spec)["RayService"]) == Need(GPU, 4, 2, {"pool": "a"})
    assert need_of(render(accelerator={"vendor": "cpu"})["RayService"]) is None


class Cluster:
    """Counts how often it is asked."""

    def __init__(self, found: list[Any] | None, status: int = 403) -> None:
        self.found, self.asked, self.status = found, 0, status

    async def list(self, path: str, *, keep: Callable[[Any], Any]) -> list[Any]:
        self.asked += 1
        if self.found is None:
            raise ApiError(self.status, "Forbidden", 'nodes is forbidden: cannot list resource "nodes"')
        return list(map(keep, self.found))


@pytest.mark.parametrize("found", [[node(1)], None], ids=["allowed", "forbidden"])
def test_nodes_are_read_once_a_minute(found: list[Any] | None) -> None:
    cluster = Cluster(found)
    nodes = Nodes(cluster)  # type: ignore[arg-type]

    async def read() -> None:
        for now in (1000.0, 1000.0 + KNOWN_SECONDS - 1, 1000.0 + KNOWN_SECONDS):
            assert await nodes.read(now) == (None if found is None else tuple(found))

    asyncio.run(read())
    assert cluster.asked == 2


def test_without_the_right_to_look_it_is_unknown(caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster(None)
    nodes, gpu, cpu = Nodes(cluster), rendered("nvidia"), rendered("cpu")  # type: ignore[arg-type]

    async def advise(now: float, ray_service: dict[str, Any] = gpu) -> str:
        return "\n".join(map(str, await nodes.advise(ray_service, now)))

    said = asyncio.run(advise(1000.0))
    assert "is unknown, as the operator may not list nodes" in said
    assert "rbac.nodes" in said, "the remedy"
    assert said == "\n".join(map(str, unread(gpu))), "as of an operator that was told not to look"
    assert (asyncio.run(advise(1000.0, cpu)), unread(cpu)) == ("", ()), "which needs none"
    asyncio.run(advise(1000.0 + KNOWN_SECONDS))
    assert len([one for one in caplog.records if one.levelname == "WARNING"]) == 1, "once, not each minute"
    cluster.found = [node(1)]
    assert asyncio.run(advise(1000.0 + 2 * KNOWN_SECONDS)) == "", "the right has come"


def test_nodes_that_could_not_be_read_this_time_are_no_advice() -> None:
    nodes = Nodes(Cluster(None, status=500))  # type: ignore[arg-type]
    assert asyncio.run(nodes.advise(rendered("nvidia"), 1000.0)) == ()


def rendered(vendor: str) -> dict[str, Any]:
    found: dict[str, Any] = render(accelerator={"vendor": vendor})["RayService"]
    return found


def test_of_a_node_no_more_is_kept_than_is_looked_at() -> None:
    """Whole ones, with their images, would be more than the operator's memory where there are thousands."""
    whole = node(1)
    whole["metadata"]["annotations"] = {"a": "b"}
    whole["status"]["images"] = [{"names": ["registry/large:1"]}]
    whole["status"]["allocatable"]["cpu"] = "64"
    (kept,) = asyncio.run(Nodes(Cluster([whole])).read(1000.0)) or ()  # type: ignore[arg-type]
    assert kept == node(1)


def test_passes_that_ask_at_once_hear_the_same() -> None:
    class Slow(Cluster):
        async def list(self, path: str, *, keep: Callable[[Any], Any]) -> list[Any]:
            await asyncio.sleep(0)
            return await super().list(path, keep=keep)

    cluster = Slow([node(1)])
    nodes = Nodes(cluster)  # type: ignore[arg-type]

    async def read() -> list[Any]:
        return list(await asyncio.gather(nodes.read(1000.0), nodes.read(1000.0)))

    assert asyncio.run(read()) == [(node(1),)] * 2
    assert cluster.asked == 1


def test_limits_that_a_pod_template_takes_away_are_no_need() -> None:
    found = render(accelerator={"vendor": "nvidia", "count": 1})["RayService"]
    (group,) = found["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    del group["template"]["spec"]["containers"][0]["resources"]
    assert need_of(found) is None
