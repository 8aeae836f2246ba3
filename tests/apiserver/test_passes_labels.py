"""Own objects that lost the label by which they are listed are found by their names, and get it back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest
from apiserver.interference import of_revision
from apiserver.rollouts import Stage, stage

from sglang_operator.cluster.metadata import labels_of
from sglang_operator.cluster.paths import RAY_SERVICE, RECORD, Kind
from sglang_operator.cluster.types import Key, Result
from sglang_operator.render import names

if TYPE_CHECKING:
    from localcluster import ControlPlane

Body = Callable[[Stage, Key, str], Awaitable[None]]
Run = Callable[[Body], None]
KINDS = pytest.mark.parametrize("kind", [RAY_SERVICE, RECORD], ids=lambda kind: kind.name)


@pytest.fixture
def serving(control_plane: ControlPlane) -> Run:
    """Runs a body over an endpoint that serves, with the name of its revision."""

    async def main(body: Body) -> None:
        async with stage(control_plane.kubeconfig) as on:
            key = await on.on.create()
            first = await on.serve(key)
            await on.on.settle(key)
            await body(on, key, first)

    return lambda body: asyncio.run(main(body))


async def take(on: Stage, kind: Kind, name: str) -> None:
    label = {"metadata": {"labels": {names.ENDPOINT: None}}}
    await on.api.patch(kind.of(on.on.namespace, name), label)


async def has_label(on: Stage, kind: Kind, name: str) -> bool:
    live = await on.api.get(kind.of(on.on.namespace, name))
    return labels_of(live).get(names.ENDPOINT) == "smollm2"


@KINDS
def test_it_gets_its_label_back_and_nothing_is_made_of_the_loss(serving: Run, kind: Kind) -> None:
    async def body(on: Stage, key: Key, name: str) -> None:
        before = len(on.on.written)
        await take(on, kind, name)
        on.clock.reach(on.clock() + 60)
        result = await on.on.settle(key)
        assert await has_label(on, kind, name)
        assert on.on.written[before:] == [f"PATCH {kind.of(key.namespace, name)}"]
        assert (await on.on.condition(key, "Progressing"))["reason"] == "RolloutComplete"
        assert result == Result()

    serving(body)


@KINDS
def test_a_rollout_goes_on_all_the_same(serving: Run, kind: Kind) -> None:
    async def body(on: Stage, key: Key, first: str) -> None:
        on.engines.loading = True
        await take(on, kind, first)
        await on.on.edit(key, restartToken="b")

        async def both_are_there() -> bool:
            return len(await on.names(RAY_SERVICE.plural)) == 2

        await on.until(both_are_there, key)
        assert await has_label(on, kind, first)
        on.engines.loading = False
        assert await on.serve(key) != first

    serving(body)


def test_a_record_of_long_ago_gets_it_back_when_it_is_wanted_again(serving: Run) -> None:
    async def body(on: Stage, key: Key, first: str) -> None:
        await on.on.edit(key, restartToken="b")
        assert await on.serve(key) != first
        await take(on, RECORD, first)
        await on.on.settle(key)
        assert not await has_label(on, RECORD, first), "nothing leads to it"
        await on.on.edit(key, restartToken=None)
        assert await on.serve(key) == first
        assert await has_label(on, RECORD, first)
        assert await of_revision(on, RAY_SERVICE, first)

    serving(body)
