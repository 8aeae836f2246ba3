"""An upgrade that cannot come up: traffic stays, it is tried once, and why it failed can be read afterwards."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from apiserver.rollouts import Object, Stage, stage

from sglang_operator.cluster.paths import POD, RAY_SERVICE, RECORD
from sglang_operator.cluster.pods import is_worker
from sglang_operator.cluster.types import Key

if TYPE_CHECKING:
    from localcluster import ControlPlane

EDIT: Object = {"engine": {"args": {"mem_fraction_static": 0.5}}}
PASSES = 20
LOG = (
    "an engine begins",
    json.dumps(
        {
            "time": "2026-01-01T00:00:00Z",
            "event": "progress",
            "step": "failed",
            "reason": "BadArgument",
            "message": "the engine does not take mem_fraction_static=0.5",
            "remedy": "correct spec.engine.args",
        }
    ),
)


def test_an_image_that_is_not_there(control_plane: ControlPlane) -> None:
    async def break_it(on: Stage) -> None:
        on.kubelet.no_image = True

    failed = asyncio.run(fail(control_plane, break_it))
    assert failed["reason"] == "ImagePullFailed"
    assert "registry.example.com/no:such" in failed["message"]
    assert "spec.engine.image" in failed["message"]


def test_an_argument_that_the_engine_refuses(control_plane: ControlPlane) -> None:
    async def break_it(on: Stage) -> None:
        on.engines.loading = on.kubelet.bind = True
        text, serving = on.on.api.text, set(on.engines.proven)

        async def told(path: str, **query: str) -> str:
            """The log of a container, which no kubelet keeps here."""
            return await text(path, **query) if any(name in path for name in serving) else "\n".join(LOG)

        on.on.api.text = told  # type: ignore[method-assign]

    failed = asyncio.run(fail(control_plane, break_it))
    assert failed["reason"] == "BadArgument"
    assert failed["message"] == "the engine does not take mem_fraction_static=0.5; correct spec.engine.args"
    assert failed["log"] == list(LOG)


async def fail(control_plane: ControlPlane, break_it: Callable[[Stage], Awaitable[None]]) -> Object:
    """Upgrade to what cannot come up. Returns what status says of it, 20 passes of a new process later."""
    async with stage(control_plane.kubeconfig) as on:
        key = await on.on.create()
        first = await on.serve(key)
        await break_it(on)
        await on.on.edit(key, **EDIT)
        await on.until(lambda: is_over(on, key), key)
        await on.on.settle(key)
        await look_again(on, key)
        assert await on.selected(key) == first
        assert (await on.on.condition(key, "Degraded"))["status"] == "True"
        assert (await on.on.condition(key, "Ready"))["status"] == "True"
        newest = max(await on.api.list(RECORD.of(key.namespace)), key=lambda one: one["revision"])
        return await on.revision(key, newest["metadata"]["name"])


async def is_over(on: Stage, key: Key) -> bool:
    """The failure is remembered, and the pods that hold accelerators are gone."""
    pods = [pod for pod in await on.api.list(POD.of(key.namespace)) if is_worker(pod)]
    status: Any = (await on.on.condition(key, "Progressing"))["reason"]
    return status == "RolledBack" and len(pods) == 1


async def look_again(on: Stage, key: Key) -> None:
    """In a new process: nothing is written, and nothing was made a second time."""
    operator, before = on.on.operator(), len(on.on.written)
    for _ in range(PASSES):
        await on.turn(key, operator)
    assert on.on.written[before:] == []
    made = [line for line in on.on.written if line == f"POST {RAY_SERVICE.of(key.namespace)}"]
    assert len(made) == 2, "one that serves, one attempt"
