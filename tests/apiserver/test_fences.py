"""Two processes believe that they lead: what the slower one decided on old facts is refused, on a real API server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from apiserver.passes import Passes, passes, until

from sglang_operator.api.defaults import parse_with_defaults
from sglang_operator.cluster.api import JSON_PATCH, ApiError
from sglang_operator.cluster.in_place import in_place_of
from sglang_operator.cluster.metadata import Owner, notes_of
from sglang_operator.cluster.paths import ENDPOINT, POLICY, RAY_CLUSTER, RAY_SERVICE, RECORD, SERVICE
from sglang_operator.cluster.records import FAILURE
from sglang_operator.cluster.refusals import StalePassError, attempt, is_outdated
from sglang_operator.cluster.snapshot import take_snapshot
from sglang_operator.cluster.types import Key
from sglang_operator.cluster.writer import Writer
from sglang_operator.lifecycle import plan as do
from sglang_operator.lifecycle.observed import Failure
from sglang_operator.render import Platform, render_endpoint

if TYPE_CHECKING:
    from apiserver.conftest import ControlPlane

NOW = 2_000_000_000.0
HOLD = "example.com/hold"
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


def test_an_endpoint_that_came_in_the_place_of_another_is_not_told_its_status(run: Callable[[Body], None]) -> None:
    """As after `kubectl replace --force`: whoever waits for Ready must not see that of the one before."""

    async def body(on: Passes, key: Key, revision: str) -> None:
        ask = on.prober.ask

        async def replace_meanwhile(*nodes: Any, **how: Any) -> Any:
            on.prober.ask = ask  # type: ignore[method-assign]
            await on.api.delete(ENDPOINT.of(*key))
            await on.create()
            return await ask(*nodes, **how)

        await on.edit(key, replicas=3)
        on.prober.ask = replace_meanwhile  # type: ignore[method-assign]
        with pytest.raises(ApiError) as caught:
            await on.operator().reconcile(key)
        assert caught.value.is_conflict
        assert "status" not in await on.api.get(ENDPOINT.of(*key))

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


async def fence_now(on: Passes, key: Key) -> do.Fence:
    """Of a plan that is decided on now."""
    service, records = await on.api.get(SERVICE.of(*key)), await on.objects(RECORD)
    return do.Fence(service["metadata"]["resourceVersion"], max(one["revision"] for one in records))


async def move_service(on: Passes, key: Key, revision: str) -> None:
    """As the faster process does it, or somebody by hand."""
    await on.api.patch(SERVICE.of(*key), {"metadata": {"annotations": {"example.com/moved": revision}}})


async def refused(on: Passes, key: Key, writer: Writer, action: do.Action) -> None:
    """It is, and nothing of it was written."""
    before = len(on.written)
    found = await attempt(carry(on, key, writer, action))
    assert list(map(is_outdated, found)) == [True], found
    assert on.written[before:] == []


async def uid_of(on: Passes, revision: str) -> str:
    return str((await on.api.get(RAY_SERVICE.of(on.namespace, revision)))["metadata"]["uid"])


async def take_away(on: Passes, revision: str) -> None:
    """Somebody deletes the RayService."""
    path = RAY_SERVICE.of(on.namespace, revision)
    await on.api.delete(path)

    async def is_gone() -> bool:
        return await on.api.find(path) is None

    await until(is_gone)


@pytest.mark.parametrize("action", ["SwitchService", "Retire", "FreeAccelerators", "CreateRevision"])
def test_a_plan_is_refused_when_what_it_was_decided_on_has_changed(run: Callable[[Body], None], action: str) -> None:
    async def body(on: Passes, key: Key, revision: str) -> None:
        actions: dict[str, Callable[[do.Fence, str], do.Action]] = {
            "SwitchService": lambda fence, _: do.SwitchService(revision, "", fence),
            "Retire": lambda fence, uid: do.Retire(revision, uid, fence),
            "FreeAccelerators": lambda fence, uid: do.FreeAccelerators(revision, uid, fence),
            "CreateRevision": lambda fence, _: do.CreateRevision(revision, fence),
        }
        uid = await uid_of(on, revision)
        if action == "CreateRevision":
            await take_away(on, revision)
        for change in (partial(move_service, on, key, revision), partial(record_again, on, revision, 2)):
            writer, old = await slow_writer(on, key), actions[action](await fence_now(on, key), uid)
            await change()
            await refused(on, key, writer, old)
        before = len(on.written)
        await carry(on, key, await slow_writer(on, key), actions[action](await fence_now(on, key), uid))
        assert len(on.written) > before, "decided anew it is done"

    run(body)


def test_a_switch_carries_what_it_was_decided_on(run: Callable[[Body], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """The look before it may be followed by a stop of the process, in which another one moves the Service."""

    async def body(on: Passes, key: Key, revision: str) -> None:
        find, look = on.api.find, SERVICE.of(*key)

        async def stopped_after(path: str) -> Any:
            found = await find(path)
            if path == look:
                await move_service(on, key, revision)
            return found

        writer, fence = await slow_writer(on, key), await fence_now(on, key)
        monkeypatch.setattr(on.api, "find", stopped_after)
        with pytest.raises(ApiError) as caught:
            await carry(on, key, writer, do.SwitchService(revision, "", fence))
        assert caught.value.is_conflict
        service = await on.one(SERVICE)
        assert service["spec"]["selector"]["serve.sglang.io/revision"] == ""
        assert notes_of(service)["example.com/moved"] == revision

    run(body)


def test_what_was_made_again_is_not_what_was_decided_on(run: Callable[[Body], None]) -> None:
    async def body(on: Passes, key: Key, revision: str) -> None:
        writer, old = await slow_writer(on, key), await uid_of(on, revision)
        await take_away(on, revision)
        await on.settle(key)
        assert await uid_of(on, revision) != old
        fence, before = await fence_now(on, key), await on.one(RAY_SERVICE)
        in_place = do.ApplyInPlace(revision, "", floor=3)
        for action in (do.Retire(revision, old, fence), do.FreeAccelerators(revision, old, fence), in_place):
            await refused(on, key, writer, action)
        assert (await on.one(RAY_SERVICE))["spec"] == before["spec"]

    run(body)


def test_an_endpoint_that_goes_is_left_to_the_garbage_collector(run: Callable[[Body], None]) -> None:
    """Somebody's finalizer holds it: what it owned is there, and there is much to put back."""

    async def body(on: Passes, key: Key, _revision: str) -> None:
        await on.api.patch(ENDPOINT.of(*key), {"metadata": {"finalizers": [HOLD]}})
        await on.edit(key, replicas=2, restartToken="again")
        await on.api.delete(POLICY.of(*key))
        await on.api.delete(ENDPOINT.of(*key))
        try:
            before = len(on.written)
            for _ in range(3):
                await on.operator().reconcile(key)
            assert on.written[before:] == []
            assert await on.api.find(POLICY.of(*key)) is None
        finally:
            with suppress(ApiError):
                await on.api.patch(ENDPOINT.of(*key), {"metadata": {"finalizers": None}})

    run(body)
