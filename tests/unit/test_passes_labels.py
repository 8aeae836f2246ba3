"""Own objects that lost the label by which they are listed are found by their names, and get it back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from unit.small_cluster import KEY, SmallCluster

from sglang_operator.cluster.paths import RAY_SERVICE, RECORD, Kind
from sglang_operator.render import names

Body = Callable[[SmallCluster], Coroutine[Any, Any, None]]
KINDS = pytest.mark.parametrize("kind", [RAY_SERVICE, RECORD], ids=lambda kind: kind.name)


def play(body: Body) -> None:
    asyncio.run(body(SmallCluster()))


def labels(on: SmallCluster, kind: Kind, name: str) -> dict[str, Any]:
    found: dict[str, Any] = on.server.objects[kind.of(KEY.namespace, name)]["metadata"]["labels"]
    return found


@KINDS
def test_it_gets_its_label_back_and_nothing_is_made_of_the_loss(kind: Kind) -> None:
    async def body(on: SmallCluster) -> None:
        name = await on.serve()
        del labels(on, kind, name)[names.ENDPOINT]
        before = len(on.server.written)
        await on.settle(60)
        assert labels(on, kind, name)[names.ENDPOINT] == KEY.name
        assert on.server.written[before:] == [f"PATCH {kind.of(KEY.namespace, name)}"]
        assert on.condition("Progressing")["reason"] == "RolloutComplete"
        assert (await on.operator.reconcile(KEY)).requeue_after is None

    play(body)


@KINDS
def test_a_rollout_goes_on_all_the_same(kind: Kind) -> None:
    async def body(on: SmallCluster) -> None:
        first = await on.serve()
        del labels(on, kind, first)[names.ENDPOINT]
        on.edit(restartToken="b")
        await on.settle(60)
        assert len(on.revisions()) == 2
        assert labels(on, kind, first)[names.ENDPOINT] == KEY.name

    play(body)


def test_a_record_of_long_ago_gets_it_back_when_it_is_wanted_again() -> None:
    async def body(on: SmallCluster) -> None:
        first = await on.serve()
        del labels(on, RECORD, first)[names.ENDPOINT]
        left = {at: one for at, one in on.server.objects.items() if first not in at or "/controllerrevisions/" in at}
        on.server.objects = {at: one for at, one in left.items() if not at.endswith(f"/services/{KEY.name}")}
        await on.settle(60)
        assert on.revisions() == [first]
        assert labels(on, RECORD, first)[names.ENDPOINT] == KEY.name

    play(body)
