"""Kubernetes Events tell of transitions: each once, and a pass that finds nothing new tells nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from apiserver.passes import Passes, passes
from apiserver.rollouts import stage

from sglang_operator.cluster.paths import EVENT
from sglang_operator.cluster.types import Key

if TYPE_CHECKING:
    from localcluster import ControlPlane


async def told(on: Passes, key: Key) -> list[tuple[Any, ...]]:
    """Type, reason and first word of the operator's events over the endpoint, sorted."""
    found = await on.api.list(EVENT.of(key.namespace))
    ours = [one for one in found if one["source"].get("component") == "sglang-operator"]
    assert all(one["involvedObject"]["name"] == key.name for one in ours)
    return sorted((one["type"], one["reason"], one["message"].partition(":")[0]) for one in ours)


def test_a_wrong_edit_and_its_correction_are_told_once(control_plane: ControlPlane) -> None:
    async def main() -> None:
        async with passes(control_plane.kubeconfig) as on:
            key = await on.create()
            await on.settle(key)
            before = await told(on, key)
            await on.edit(key, engine={"args": {"no_such_argument": 1}})
            await on.settle(key)
            await on.edit(key, engine=None)
            await on.settle(key)
            wrong, right = ("Warning", "InvalidSpec", "Accepted is False"), ("Normal", "Valid", "Accepted is True")
            assert await told(on, key) == sorted([*before, wrong, right])
            for _ in range(3):
                await on.operator().reconcile(key)
            assert len(await told(on, key)) == len(before) + 2

    asyncio.run(main())


def test_an_endpoint_that_comes_up_and_one_that_is_upgraded(control_plane: ControlPlane) -> None:
    async def main() -> None:
        async with stage(control_plane.kubeconfig) as on:
            key = await on.on.create()
            await on.serve(key)
            await on.on.settle(key)
            up = await told(on.on, key)
            assert up.count(("Normal", "Serving", "Ready is True")) == 1
            assert [one for one in up if one[0] == "Warning"] == []
            await on.on.edit(key, restartToken="again")
            await on.serve(key)
            upgraded = await told(on.on, key)
            assert [one for one in upgraded if one[2].startswith("Ready")] == [one for one in up if "Ready" in one[2]]
            assert upgraded.count(("Normal", "RolloutComplete", "Progressing is False")) == 2

    asyncio.run(main())
