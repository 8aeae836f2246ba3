"""Upgrades from the edit to the end of the old revision, over real KubeRay, whatever goes wrong on the way."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from apiserver.passes import KilledError
from apiserver.rollouts import Object, Stage, stage
from apiserver.test_failed_requests import spoil

from sglang_operator.cluster.paths import RAY_SERVICE
from sglang_operator.cluster.types import Key

if TYPE_CHECKING:
    from localcluster import ControlPlane

EDIT: Object = {"engine": {"args": {"mem_fraction_static": 0.5}}}
KILL_PARTS = 4  # tests that share the kills between them


@dataclass(frozen=True)
class Upgraded:
    """How an upgrade ended."""

    objects: Object
    writes: int
    """From the edit on."""
    killed: bool
    failed: int
    """Passes that met a fault."""


async def serving(on: Stage) -> tuple[Key, str]:
    key = await on.on.create()
    return key, await on.serve(key)


def test_traffic_moves_after_the_answers_and_then_the_old_revision_goes(control_plane: ControlPlane) -> None:
    async def main() -> None:
        async with stage(control_plane.kubeconfig) as on:
            key, first = await serving(on)
            await on.on.edit(key, **EDIT)
            on.engines.loading = True

            async def pods_are_ready() -> bool:
                return len(set(on.engines.revisions.values())) == 2

            await on.until(pods_are_ready, key)
            for _ in range(3):
                await on.turn(key, on.on.operator())
            assert await on.selected(key) == first
            on.engines.loading = False
            second = await on.serve(key)
            assert second != first
            assert await on.names(RAY_SERVICE.plural) == [second]
            assert [(await on.revision(key, name))["state"] for name in (first, second)] == ["Past", "Serving"]
            await on.on.settle(key)
            before = len(on.on.written)
            await on.on.operator().reconcile(key)
            assert len(on.on.written) == before

    asyncio.run(main())


async def upgraded(kubeconfig: Path, *, killed_after: int | None = None, seed: int | None = None) -> Upgraded:
    """An upgrade in a namespace of its own, to its end."""
    async with stage(kubeconfig) as on:
        key, _ = await serving(on)
        await on.on.edit(key, **EDIT)
        before, send = len(on.on.written), on.on.api._send
        killed = await was_killed(on, key, killed_after)
        if seed is not None:
            spoil(on.on.api, seed)
        await on.serve(key)
        on.on.api._send = send  # type: ignore[method-assign]
        await on.on.settle(key)
        return Upgraded(await on.objects(), len(on.on.written) - before, killed, on.failed)


async def was_killed(on: Stage, key: Key, after: int | None) -> bool:
    """Whether the process ended before the upgrade did, after so many writes."""
    if after is None:
        return False
    on.on.kill_after[:] = [after]
    try:
        await on.serve(key)
    except KilledError:
        return True
    finally:
        on.on.kill_after.clear()
    return False


@pytest.fixture(scope="module")
def reference(control_plane: ControlPlane) -> Upgraded:
    """An upgrade in peace."""
    return asyncio.run(upgraded(control_plane.kubeconfig))


@pytest.mark.parametrize("part", range(KILL_PARTS))
def test_killed_after_any_write_of_an_upgrade_the_next_process_ends_it(
    control_plane: ControlPlane, reference: Upgraded, part: int
) -> None:
    async def main() -> None:
        kills = range(part, reference.writes, KILL_PARTS)
        ends = await asyncio.gather(*(upgraded(control_plane.kubeconfig, killed_after=writes) for writes in kills))
        assert [end.objects for end in ends] == [reference.objects] * len(kills)
        # How often status is written depends on what a pass sees, so the last kills may come too late.
        assert [end.killed for end in ends[:-1]] == [True] * (len(kills) - 1)

    asyncio.run(main())


@pytest.mark.parametrize("seed", range(3))
def test_requests_that_fail_only_delay_an_upgrade(control_plane: ControlPlane, reference: Upgraded, seed: int) -> None:
    async def main() -> None:
        end = await upgraded(control_plane.kubeconfig, seed=seed)
        assert end.failed > 0, "no fault was met"
        assert end.objects == reference.objects

    asyncio.run(main())
