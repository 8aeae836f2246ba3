"""Two processes believe that they lead: what the slower one decided on old facts is refused, on a real API server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest
from apiserver.passes import Passes, passes, until

from sglang_operator.api.defaults import parse_with_defaults
from sglang_operator.cluster.api import JSON_PATCH, ApiError
from sglang_operator.cluster.in_place import in_place_of
from sglang_operator.cluster.metadata import Owner, notes_of
from sglang_operator.cluster.paths import ENDPOINT, RAY_CLUSTER, RECORD
from sglang_operator.cluster.records import FAILURE
from sglang_operator.cluster.refusals import StalePassError
from sglang_operator.cluster.snapshot import take_snapshot
from sglang_operator.cluster.types import Key
from sglang_operator.cluster.writer import Writer
from sglang_operator.lifecycle import plan as do
from sglang_operator.lifecycle.observed import Failure
from sglang_operator.render import Platform, render_endpoint

if TYPE_CHECKING:
    from apiserver.conftest import ControlPlane

NOW = 2_000_000_000.0
Body = Callable[[Passes, Key, str], Awaitable[None]]


@pytest.fixture
def run(control_plane: ControlPlane) -> Callable[[Body], None]:
    """Runs a test's body with an endpoint that is recorded, and the name of its revision."""

    def run_in(body: Body) -> None:
        async def main() -> None:
            async with passes(control_plane.kubeconfig) as on:
                key = await on.create()
                await on.settle(key)
                await body(on, key, (await on.one(RECORD))["metadata"]["name"])

        asyncio.run(main())

    return run_in


async def slow_writer(on: Passes, key: Key) -> Writer:
    """That of a pass which has read everything now."""
    live = await on.api.get(ENDPOINT.of(*key))
    snapshot = await take_snapshot(on.api, key, live)
    endpoint = parse_with_defaults(live, {})
    owner = Owner(key, live["metadata"]["uid"])
    return Writer(on.api, owner, snapshot, render_endpoint(endpoint, Platform()), in_place_of(endpoint, ""))


async def carry(on: Passes, key: Key, writer: Writer, action: do.Action) -> None:
    endpoint = parse_with_defaults(await on.api.get(ENDPOINT.of(*key)), {})
    await writer.carry_out((action,), endpoint, NOW)


async def record_again(on: Passes, revision: str, number: int) -> None:
    """As the faster process does it."""
    await on.api.patch(RECORD.of(on.namespace, revision), {"revision": number})


def test_a_failure_is_not_remembered_of_what_was_recorded_anew(run: Callable[[Body], None]) -> None:
    async def body(on: Passes, key: Key, revision: str) -> None:
        failed = do.RememberFailure(revision, 1, Failure("EngineFailed", "m", NOW))
        writer = await slow_writer(on, key)
        await record_again(on, revision, 2)
        with pytest.raises(ApiError) as caught:
            await carry(on, key, writer, failed)
        assert caught.value.is_conflict
        assert FAILURE not in notes_of(await on.one(RECORD))
        await carry(on, key, await slow_writer(on, key), failed)
        assert FAILURE in notes_of(await on.one(RECORD))

    run(body)


def test_marks_of_a_record_follow_each_other_in_one_pass(run: Callable[[Body], None]) -> None:
    async def body(on: Passes, key: Key, revision: str) -> None:
        writer = await slow_writer(on, key)
        for action in (do.RecordRevision(revision, 2), do.StartDrain(revision), do.CancelDrain(revision)):
            await carry(on, key, writer, action)
        assert (await on.one(RECORD))["revision"] == 2

    run(body)


def test_a_number_is_given_once(run: Callable[[Body], None]) -> None:
    async def body(on: Passes, key: Key, revision: str) -> None:
        writer = await slow_writer(on, key)
        await record_again(on, revision, 2)
        for name in (revision, f"{key.name}-other"):
            with pytest.raises(StalePassError):
                await carry(on, key, writer, do.RecordRevision(name, 2))
        assert (await on.one(RECORD))["revision"] == 2

    run(body)


def test_a_record_that_came_back_is_not_forgotten(run: Callable[[Body], None]) -> None:
    async def body(on: Passes, key: Key, revision: str) -> None:
        writer = await slow_writer(on, key)
        await record_again(on, revision, 2)
        with pytest.raises(ApiError) as caught:
            await carry(on, key, writer, do.ForgetRecord(revision))
        assert caught.value.is_conflict
        await carry(on, key, await slow_writer(on, key), do.ForgetRecord(revision))
        assert await on.objects(RECORD) == []

    run(body)


def test_a_mark_of_a_record_that_is_gone_is_refused(run: Callable[[Body], None]) -> None:
    async def body(on: Passes, key: Key, revision: str) -> None:
        writer = await slow_writer(on, key)
        await on.api.delete(RECORD.of(on.namespace, revision))
        with pytest.raises(StalePassError):
            await carry(on, key, writer, do.StartDrain(revision))

    run(body)


async def bound(on: Passes, most: int) -> None:
    """Somebody patches the RayCluster that KubeRay has made."""
    (live,) = await on.api.list(RAY_CLUSTER.of(on.namespace))
    change = {"op": "add", "path": "/spec/workerGroupSpecs/0/maxReplicas", "value": most}
    await on.api.patch(RAY_CLUSTER.of(on.namespace, live["metadata"]["name"]), [change], JSON_PATCH)


async def highest(on: Passes) -> int:
    (live,) = await on.api.list(RAY_CLUSTER.of(on.namespace))
    return int(live["spec"]["workerGroupSpecs"][0]["maxReplicas"])


def test_bounds_that_somebody_changed_meanwhile_are_read_anew(run: Callable[[Body], None]) -> None:
    async def body(on: Passes, key: Key, _revision: str) -> None:
        async def is_made() -> bool:
            return bool(await on.api.list(RAY_CLUSTER.of(on.namespace)))

        await until(is_made)
        await bound(on, 5)
        writer = await slow_writer(on, key)
        await bound(on, 7)
        with pytest.raises(StalePassError):
            await writer.repair()
        assert await highest(on) == 7
        await (await slow_writer(on, key)).repair()
        assert await highest(on) == 1

    run(body)
