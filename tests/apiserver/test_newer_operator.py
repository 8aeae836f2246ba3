"""Another operator, other templates, another CRD: an endpoint that serves is told of them, and left as it is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from apiserver.passes import until
from apiserver.rollouts import Stage, stage

from sglang_operator.cluster.metadata import name_of
from sglang_operator.cluster.paths import ENDPOINT, EVENT, POD, RAY_CLUSTER, RAY_SERVICE, RECORD, SERVICE
from sglang_operator.cluster.types import Key

if TYPE_CHECKING:
    from localcluster import ControlPlane

CRD = "sglangendpoints.serve.sglang.io"
TASK = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/task/default"
LATER_DEFAULTS = {"engine": {"args": {"schedule_policy": "lpm"}}}


@asynccontextmanager
async def default_task(plane: ControlPlane, on: Stage, key: Key) -> AsyncIterator[None]:
    """A CRD that writes a rollout field into each object, also into those that are stored without it."""
    patch_crd(plane, {"op": "add", "path": TASK, "value": "generate"})
    try:
        await until(lambda: has_task(on, key))
        yield
    finally:
        patch_crd(plane, {"op": "remove", "path": TASK})


def patch_crd(plane: ControlPlane, change: dict[str, str]) -> None:
    plane.kubectl("patch", "crd", CRD, "--type=json", f"--patch={json.dumps([change])}")


async def has_task(on: Stage, key: Key) -> bool:
    return "task" in (await on.api.get(ENDPOINT.of(*key)))["spec"]


async def identities(on: Stage) -> dict[str, Any]:
    """Of all that serves, by kind and name."""
    kinds = (RAY_SERVICE, RAY_CLUSTER, RECORD, SERVICE, POD)
    items = [(kind, item) for kind in kinds for item in await on.api.list(kind.of(on.on.namespace))]
    return {f"{kind.name} {name_of(item)}": item["metadata"]["uid"] for kind, item in items}


def test_defaults_templates_and_the_crd_of_a_newer_operator_move_nothing(
    control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with stage(control_plane.kubeconfig) as on:
            key = await on.on.create()
            await on.serve(key)
            await on.on.settle(key)
            before, writes = await identities(on), len(on.on.written)
            assert not await has_task(on, key)
            monkeypatch.setattr("sglang_operator.render.context.KILL_SECONDS", 61)
            on.on.options = {"defaults": LATER_DEFAULTS}
            async with default_task(control_plane, on, key):
                operator = on.on.operator()
                for _ in range(5):
                    await on.turn(key, operator)
                assert (await on.on.condition(key, "UpdateAvailable"))["reason"] == "NewDefaults"
            told = {f"PATCH {ENDPOINT.of(*key, 'status')}", f"POST {EVENT.of(key.namespace)}"}
            assert (await on.on.condition(key, "Progressing"))["reason"] == "RolloutComplete", "nothing was refused"
            assert set(on.on.written[writes:]) <= told
            assert await identities(on) == before

    asyncio.run(main())
