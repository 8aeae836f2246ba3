"""Objects of its names that belong to somebody else are left alone; its own lose the fields that the spec drops."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from apiserver.passes import Passes, passes

from sglang_operator.api import parse_endpoint
from sglang_operator.cluster.children import Children
from sglang_operator.cluster.in_place import in_place_of
from sglang_operator.cluster.metadata import Owner
from sglang_operator.cluster.paths import BUDGET, ENDPOINT, INGRESS, POLICY, RAY_SERVICE, RECORD, SERVICE, Kind
from sglang_operator.cluster.refusals import NameTakenError, StalePassError
from sglang_operator.cluster.snapshot import take_snapshot
from sglang_operator.cluster.types import Key
from sglang_operator.cluster.writer import Writer
from sglang_operator.lifecycle.plan import Fence, SwitchService
from sglang_operator.render import names, render_endpoint

if TYPE_CHECKING:
    from apiserver.conftest import ControlPlane

Run = Callable[[Callable[[Passes], Awaitable[None]]], None]
OPEN = {"allowAnonymous": True, "ingress": {"host": "a.example.com", "annotations": {"a": "1", "b": "2"}}}
SELECTOR = {"matchLabels": {"app": "theirs"}}
THEIRS = {
    INGRESS: {"defaultBackend": {"service": {"name": "theirs", "port": {"number": 1}}}},
    POLICY: {"podSelector": SELECTOR},
    BUDGET: {"selector": SELECTOR, "minAvailable": 1},
    SERVICE: {"ports": [{"port": 1}], "selector": {"app": "theirs"}},
}


@pytest.fixture
def run(control_plane: ControlPlane) -> Run:
    def run_in(body: Callable[[Passes], Awaitable[None]]) -> None:
        async def main() -> None:
            async with passes(control_plane.kubeconfig) as made:
                await body(made)

        asyncio.run(main())

    return run_in


async def make(on: Passes, kind: Kind, name: str, **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "labels": labels}
    body = {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata, "spec": THEIRS[kind]}
    return await on.api.create(kind.of(on.namespace), body)


def without_status(live: dict[str, Any]) -> dict[str, Any]:
    """The controllers of Kubernetes write that meanwhile."""
    metadata = {key: live["metadata"].get(key) for key in ("uid", "generation", "labels", "annotations")}
    return {**live, "metadata": metadata, "status": None}


@pytest.mark.parametrize("labels", [{}, {names.ENDPOINT: "smollm2"}], ids=["plain", "with our label"])
@pytest.mark.parametrize("kind", THEIRS, ids=lambda kind: kind.name)
def test_a_foreign_object_is_not_taken_over(run: Run, kind: Kind, labels: dict[str, str]) -> None:
    async def body(on: Passes) -> None:
        before = await make(on, kind, await name_of(on, kind), **labels)
        key = await on.create(api=OPEN, replicas=2)
        await on.settle(key)
        progressing = await on.condition(key, "Progressing")
        assert (progressing["reason"], before["metadata"]["name"] in progressing["message"]) == ("NameTaken", True)
        after = await on.api.get(kind.of(on.namespace, before["metadata"]["name"]))
        assert without_status(after) == without_status(before)
        assert "ownerReferences" not in after["metadata"]
        for other in THEIRS.keys() - {kind}:  # the rest of the endpoint is made
            assert (await on.one(other))["metadata"]["ownerReferences"]
        await on.api.delete(kind.of(on.namespace, before["metadata"]["name"]))
        await on.settle(key)
        assert (await on.one(kind))["metadata"]["ownerReferences"]

    run(body)


async def name_of(on: Passes, kind: Kind) -> str:
    """As an endpoint names its own."""
    key = await on.create(api=OPEN, replicas=2)
    await on.settle(key)
    name = str((await on.one(kind))["metadata"]["name"])
    await on.remove(key)
    return name


def test_a_child_that_lost_its_label_is_still_its_own(run: Run) -> None:
    async def body(on: Passes) -> None:
        key = await on.create(api=OPEN)
        await on.settle(key)
        name = (await on.one(INGRESS))["metadata"]["name"]
        await on.api.patch(INGRESS.of(on.namespace, name), {"metadata": {"labels": {names.ENDPOINT: None}}})
        await on.settle(key)
        assert (await on.one(INGRESS))["metadata"]["labels"][names.ENDPOINT] == key.name

    run(body)


def test_fields_that_an_object_was_created_with_go_when_the_spec_drops_them(run: Run) -> None:
    async def body(on: Passes) -> None:
        key = await on.create(api={**OPEN, "service": {"annotations": {"a": "1", "b": "2"}}})
        await on.settle(key)
        dropped = {"annotations": {"b": None}}
        await on.edit(key, api={"ingress": dropped, "service": dropped})
        await on.settle(key)
        for kind in (INGRESS, SERVICE):
            notes = (await on.one(kind))["metadata"]["annotations"]
            assert (notes.get("a"), notes.get("b")) == ("1", None)

    run(body)


def test_a_foreign_record_of_a_needed_name_is_left_alone(run: Run) -> None:
    async def body(on: Passes) -> None:
        key = await on.create()
        await on.settle(key)
        name = (await on.one(RECORD))["metadata"]["name"]
        await on.remove(key)
        theirs = {"metadata": {"name": name}, "revision": 7, "data": {"theirs": True}}
        made = await on.api.create(RECORD.of(on.namespace), {"apiVersion": "apps/v1", "kind": RECORD.name, **theirs})
        await on.settle(await on.create())
        progressing = await on.condition(key, "Progressing")
        assert progressing["reason"] == "NameTaken"
        assert f"ControllerRevision {name}" in progressing["message"]
        assert await on.api.get(RECORD.of(on.namespace, name)) == made
        await on.api.delete(RECORD.of(on.namespace, name))
        await on.settle(key)
        assert (await on.condition(key, "Progressing"))["reason"] == "StartingRevision"

    run(body)


def test_the_switch_leaves_a_foreign_service_alone(run: Run) -> None:
    """Of a plan that was made before it came, too."""

    async def body(on: Passes) -> None:
        key = await on.create()
        await on.settle(key)
        await on.api.delete(SERVICE.of(*key))
        await make(on, SERVICE, key.name)
        with pytest.raises(NameTakenError):
            await switch(on, key)
        assert (await on.one(SERVICE))["spec"]["selector"] == {"app": "theirs"}

    run(body)


def test_a_service_that_came_meanwhile_keeps_what_it_selects(run: Run) -> None:
    """It may be what this very pass has switched before something else of it was refused."""

    async def body(on: Passes) -> None:
        key = await on.create()
        await on.settle(key)
        live = await on.api.get(ENDPOINT.of(*key))
        late = replace(await take_snapshot(on.api, key, live), service=None)
        selected = {"spec": {"selector": {names.ENDPOINT: key.name, names.REVISION: "r1"}}}
        await on.api.patch(SERVICE.of(*key), selected)
        endpoint = parse_endpoint(live)
        children = Children(on.api, Owner(key, live["metadata"]["uid"]), late, None, 0.0)
        with pytest.raises(StalePassError):
            await children.sync(render_endpoint(endpoint))
        service = await on.api.get(SERVICE.of(*key))
        assert service["spec"]["selector"][names.REVISION] == "r1"

    run(body)


def test_a_foreign_ray_service_with_our_labels_is_not_seen(run: Run) -> None:
    async def body(on: Passes) -> None:
        key = await on.create()
        await on.settle(key)
        own = await on.one(RAY_SERVICE)
        labels = {**own["metadata"]["labels"], names.REVISION: "copy"}
        metadata = {"name": "copy", "labels": labels}
        copy = await on.api.create(RAY_SERVICE.of(on.namespace), {**own, "metadata": metadata})
        await on.settle(key)
        snapshot = await take_snapshot(on.api, key, await on.api.get(ENDPOINT.of(*key)))
        assert [one["metadata"]["name"] for one in snapshot.ray_services] == [own["metadata"]["name"]]
        found = await on.api.get(RAY_SERVICE.of(on.namespace, "copy"))
        assert found["metadata"]["uid"] == copy["metadata"]["uid"]
        assert "deletionTimestamp" not in found["metadata"]

    run(body)


async def switch(on: Passes, key: Key) -> None:
    """What a pass would write that has proven the first revision."""
    live = await on.api.get(ENDPOINT.of(*key))
    endpoint = parse_endpoint(live)
    snapshot = await take_snapshot(on.api, key, live)
    writer = Writer(on.api, Owner(key, endpoint.uid), snapshot, render_endpoint(endpoint), in_place_of(endpoint, ""))
    action = SwitchService(snapshot.records[0].name, "", Fence("", 1))
    await writer.carry_out((action,), endpoint, 0.0)
