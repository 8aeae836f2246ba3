"""A field of spec.podTemplate that KubeRay's CRD does not have is refused by name, and not dropped without a word."""

from __future__ import annotations

from typing import Any

import pytest
from apiserver.passes import Passes
from apiserver.test_reconcile import Run, run

from sglang_operator.cluster.paths import RAY_SERVICE, SERVICE

__all__ = ["run"]  # a fixture
# Like no field of a pod: what is like one is found offline.
UNKNOWN = {"warpDrive": [{"name": "ray-worker"}], "ofAnotherKubernetes": True}


@pytest.mark.parametrize("field", UNKNOWN)
def test_an_unknown_field_is_named_and_its_correction_goes_on(run: Run, field: str) -> None:
    async def body(on: Passes) -> None:
        key = await on.create(podTemplate={"worker": {"spec": {field: UNKNOWN[field]}}})
        result = await on.settle(key)
        found = await on.condition(key, "Progressing")
        assert (found["status"], found["reason"], result.requeue_after) == ("False", "InvalidObject", 30)
        assert f'unknown field "spec.rayClusterConfig.workerGroupSpecs[0].template.spec.{field}"' in found["message"]
        assert await on.objects(RAY_SERVICE) == []
        assert await on.one(SERVICE)
        await on.edit(key, podTemplate={"worker": {"spec": {field: None}}})
        await on.settle(key)
        assert (await on.condition(key, "Progressing"))["reason"] == "StartingRevision"
        assert await on.one(RAY_SERVICE)

    run(body)


def test_a_ray_service_that_was_made_without_it_is_told_of_too(run: Run) -> None:
    """By an earlier operator, or by another version of the CRD: no apply reaches it until the spec is corrected."""

    async def body(on: Passes) -> None:
        create = on.api.create

        async def lenient(path: str, body: Any, **_: bool) -> dict[str, Any]:
            return await create(path, body)

        on.api.create = lenient  # type: ignore[method-assign]
        key = await on.create(podTemplate={"worker": {"spec": {"ofAnotherKubernetes": UNKNOWN["ofAnotherKubernetes"]}}})
        await on.settle(key)
        assert await on.one(RAY_SERVICE)
        found = await on.condition(key, "Progressing")
        assert (found["reason"], "ofAnotherKubernetes" in found["message"]) == ("InvalidObject", True)
        await on.edit(key, podTemplate={"worker": {"spec": {"ofAnotherKubernetes": None}}})
        await on.settle(key)
        assert (await on.condition(key, "Progressing"))["reason"] != "InvalidObject"

    run(body)
