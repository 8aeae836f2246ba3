"""What the cluster refuses, for good or for now, keeps nothing else waiting, and status tells it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest
from apiserver.interference import NO_ANSWER, denied, limit, status_of, unanswered, widen, workers
from apiserver.rollouts import Object, Stage, stage
from apiserver.test_conditions import said
from apiserver.test_ownership import make

from sglang_operator.cluster.api import Api, ApiError
from sglang_operator.cluster.paths import INGRESS, POLICY, RAY_SERVICE, SERVICE, Kind
from sglang_operator.cluster.types import Key
from sglang_operator.render import names

if TYPE_CHECKING:
    from localcluster import ControlPlane

OPEN: Final[Object] = {"allowAnonymous": True, "ingress": {"host": "a.example.com"}}
RAY_SERVICES: Final = f"count/{RAY_SERVICE.plural}.{RAY_SERVICE.group}"  # as quotas call them
UNKNOWN: Final[Object] = {"worker": {"spec": {"ofAnotherKubernetes": True}}}
Body = Callable[[Stage], Awaitable[None]]
Run = Callable[[Body], None]


@pytest.fixture
def run(control_plane: ControlPlane) -> Run:
    async def main(body: Body) -> None:
        async with stage(control_plane.kubeconfig) as on:
            await body(on)

    return lambda body: asyncio.run(main(body))


async def serve(on: Stage, **spec: Any) -> tuple[Key, str]:
    """An endpoint of one replica that serves, whatever else is refused of it; with the name of its revision."""
    key = await on.on.create(**{"replicas": 1, **spec})
    await said(on, key, "Ready", "Serving")
    return key, await on.selected(key)


async def has_bounds(on: Stage, name: str, fewest: int, most: int) -> bool:
    return await workers(on, name) == ((fewest, most), (fewest, most))


@pytest.mark.parametrize(("refused", "other"), [(INGRESS, POLICY), (POLICY, INGRESS)], ids=["Ingress", "NetworkPolicy"])
def test_a_refused_object_keeps_bounds_and_other_objects_from_nothing(run: Run, refused: Kind, other: Kind) -> None:
    async def body(on: Stage) -> None:
        async with denied(on, refused, "host is already defined"):
            key, name = await serve(on, api=OPEN, replicas=None, scaling={"min": 1, "max": 2})
            found = await said(on, key, "Progressing", "InvalidObject")
            assert "host is already defined" in found["message"]
            assert (await on.on.condition(key, "Ready"))["status"] == "True"
            await on.api.delete(other.of(*key))
            await on.on.edit(key, scaling={"min": 3, "max": 6})
            await on.until(lambda: has_bounds(on, name, 3, 6), key)
            assert await on.on.one(other)

    run(body)


def test_traffic_moves_also_where_the_rest_of_the_service_is_refused(run: Run) -> None:
    async def body(on: Stage) -> None:
        key, name = await serve(on)
        await limit(on, "services.loadbalancers", 0)
        await on.on.edit(key, restartToken="b", api={"allowAnonymous": True, "service": {"type": "LoadBalancer"}})

        async def has_moved() -> bool:
            return await on.selected(key) != name

        await on.until(has_moved, key)
        assert "exceeded quota" in (await said(on, key, "Progressing", "RefusedByCluster"))["message"]
        service = await on.api.get(SERVICE.of(*key))
        assert (service["spec"]["type"], service["spec"]["selector"][names.REVISION]) == (
            "ClusterIP",
            await on.selected(key),
        )

    run(body)


def test_a_name_that_is_taken_keeps_bounds_from_nothing(run: Run) -> None:
    async def body(on: Stage) -> None:
        await make(on.on, POLICY, "smollm2")
        key, name = await serve(on)
        await said(on, key, "Progressing", "NameTaken")
        await widen(on, name, service=False)
        await on.until(lambda: has_bounds(on, name, 1, 1), key)

    run(body)


async def goes_on(on: Stage, key: Key, name: str) -> None:
    """The serving revision and the Service get what is new although the next revision is refused."""
    await on.on.edit(key, restartToken="b", replicas=3, api={"service": {"port": 8080}})

    async def is_new() -> bool:
        (port,) = (await on.api.get(SERVICE.of(*key)))["spec"]["ports"]
        return await has_bounds(on, name, 3, 3) and port["port"] == 8080

    await on.until(is_new, key)
    assert await on.names(RAY_SERVICE.plural) == [name]


def test_a_revision_over_a_quota_keeps_the_serving_one_from_nothing(run: Run) -> None:
    async def body(on: Stage) -> None:
        key, name = await serve(on)
        await limit(on, RAY_SERVICES, 1)
        await goes_on(on, key, name)
        assert "exceeded quota" in (await said(on, key, "Progressing", "RefusedByCluster"))["message"]

    run(body)


def test_a_revision_that_is_refused_for_now_keeps_the_serving_one_from_nothing(run: Run) -> None:
    async def body(on: Stage) -> None:
        key, name = await serve(on)
        async with unanswered(on, RAY_SERVICE):
            await goes_on(on, key, name)
            with pytest.raises(ApiError, match=NO_ANSWER):
                await on.on.settle(key)
            assert await on.names(RAY_SERVICE.plural) == [name]

    run(body)


def test_a_repair_does_not_undo_what_the_same_pass_has_written(run: Run) -> None:
    async def body(on: Stage) -> None:
        key, name = await serve(on)
        await limit(on, RAY_SERVICES, 1)
        await on.on.settle(key)
        await widen(on, name, cluster=False)
        await on.on.edit(key, restartToken="b", replicas=2)
        await on.on.operator().reconcile(key)
        assert await has_bounds(on, name, 2, 2)

    run(body)


def test_a_ray_service_that_takes_no_apply_still_gets_its_bounds(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(on: Stage) -> None:
        create = on.on.api.create

        async def lenient(path: str, body: Any, **_: bool) -> Object:
            """As an earlier operator made it, which asked for no check of the fields."""
            return await create(path, body)

        monkeypatch.setattr(on.on.api, "create", lenient)
        key, name = await serve(on, podTemplate=UNKNOWN)
        await widen(on, name)

        async def has_its_bounds() -> bool:
            return (await workers(on, name))[1] == (1, 1)

        await on.until(has_its_bounds, key)
        assert (await workers(on, name))[0] == (1, 9), "an apply has reached it"
        assert ".ofAnotherKubernetes" in (await said(on, key, "Progressing", "InvalidObject"))["message"]

    run(body)


def test_under_recreate_what_is_refused_costs_no_outage(run: Run) -> None:
    async def body(on: Stage) -> None:
        key, name = await serve(on, upgrade={"strategy": "Recreate"})
        await on.on.edit(key, podTemplate=UNKNOWN)
        assert ".ofAnotherKubernetes" in (await said(on, key, "Progressing", "InvalidObject"))["message"]
        assert [one["metadata"]["name"] for one in await on.on.objects(RAY_SERVICE)] == [name]
        assert (await said(on, key, "Ready", "Serving"))["status"] == "True"
        await on.on.edit(key, podTemplate=None)
        await said(on, key, "Progressing", "RolloutComplete")
        assert [one["metadata"]["name"] for one in await on.on.objects(RAY_SERVICE)] == [name]

    run(body)


def test_a_spec_that_is_wrong_hides_nothing_of_what_serves(run: Run) -> None:
    """Who is called at night goes by Ready, whatever somebody wrote in the evening."""

    async def body(on: Stage) -> None:
        key, name = await serve(on)
        await on.on.edit(key, engine={"args": {"no_such_argument": 1}})
        await said(on, key, "Accepted", "InvalidSpec")
        assert (await on.on.condition(key, "Ready"))["status"] == "True"
        on.engines.dead = True
        ready = await said(on, key, "Ready", "NotServing")
        assert name in ready["message"]
        assert (await status_of(on, key))["readyReplicas"] == 0
        assert (await on.on.condition(key, "Progressing"))["observedGeneration"] == 1, "nothing is planned"

    run(body)


def test_status_is_written_while_a_write_fails(run: Run) -> None:
    async def body(on: Stage) -> None:
        async with unanswered(on, RAY_SERVICE):
            key = await on.on.create(replicas=1)
            for generation, spec in ((1, {}), (2, {"replicas": 2})):
                if spec:
                    await on.on.edit(key, **spec)
                with pytest.raises(ApiError, match=NO_ANSWER):
                    await on.on.settle(key)
                found = await on.on.condition(key, "Progressing")
                assert found["reason"] == "RefusedByCluster"
                assert 'webhook "kueue.example.com"' in found["message"]
                assert (await status_of(on, key))["observedGeneration"] == generation
        await on.serve(key)
        assert (await on.on.condition(key, "Progressing"))["reason"] == "RolloutComplete"

    run(body)


@contextmanager
def nothing_is_written(api: Api, error: ApiError, of_status: ApiError) -> Iterator[None]:
    send = api._send

    async def refuse(verb: str, path: str, *rest: Any) -> bytes:
        if verb == "GET":
            return await send(verb, path, *rest)
        raise of_status if "/status" in path else error

    api._send = refuse  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        api._send = send  # type: ignore[method-assign]


def test_the_first_error_is_told_if_status_cannot_be_written_either(run: Run) -> None:
    async def body(on: Stage) -> None:
        key, away = await on.on.create(), ApiError(500, "InternalError", f'{NO_ANSWER} "kueue"')
        lost = ApiError(0, "ClientConnectorError", "the API server cannot be asked")
        with nothing_is_written(on.on.api, away, lost), pytest.raises(ApiError) as raised:
            await on.on.settle(key)
        assert raised.value is away

    run(body)
