"""An operator whose CRD is still the one of before: what that has no room for is missing, and nothing else."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from apiserver.passes import Passes, until
from apiserver.test_reconcile import Run, run

from sglang_operator.cluster.api import ApiError
from sglang_operator.cluster.paths import ENDPOINT, RAY_SERVICE

__all__ = ["run"]  # a fixture
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/sglangendpoints.serve.sglang.io"


def test_status_lacks_only_what_the_older_crd_does_not_know(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def body(on: Passes) -> None:
        async with crd_without(on, ("reason",), ("revisions", "state"), ("updating", "step")):
            key, operator = await on.create(), on.operator()
            await on.settle(key, operator)  # nor does it write for ever what cannot be held
            status = (await on.api.get(ENDPOINT.of(*key)))["status"]
            assert await on.one(RAY_SERVICE)
            assert (await on.condition(key, "Progressing"))["reason"] == "StartingRevision"
            assert "reason" not in status
            assert ("step" in status["updating"], "revision" in status["updating"]) == (False, True)
            assert ("state" in status["revisions"][0], "name" in status["revisions"][0]) == (False, True)
        assert "older than this operator and lacks status." in caplog.text
        assert caplog.text.count("status.revisions.state") == 1, "it is told once"
        caplog.clear()
        await on.edit(key, replicas=2)  # what status says changes, under the CRD of this version
        await on.settle(key, operator)
        status = (await on.api.get(ENDPOINT.of(*key)))["status"]
        assert status["reason"] == "StartingRevision"
        assert "step" in status["updating"]
        assert "state" in status["revisions"][0]
        assert "older than this operator" not in caplog.text

    run(body)


@asynccontextmanager
async def crd_without(on: Passes, *fields: tuple[str, ...]) -> AsyncIterator[None]:
    """The CRD without these fields of status, as long as it lasts."""
    ours = await on.api.get(CRD)
    older = copy.deepcopy(ours["spec"]["versions"])
    status = older[0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    for *parents, name in fields:
        holder = status
        for parent in parents:
            holder = holder["properties"][parent]
            holder = holder.get("items", holder)
        del holder["properties"][name]
        if name in holder.get("required", []):
            holder["required"].remove(name)
    await change_crd(on, older, knows=False)
    try:
        yield
    finally:
        await change_crd(on, ours["spec"]["versions"], knows=True)


async def change_crd(on: Passes, versions: list[Any], *, knows: bool) -> None:
    """Returns when the API server goes by it."""
    await on.api.patch(CRD, {"spec": {"versions": versions}})

    async def is_so() -> bool:
        key = await on.create("embeddings", replicas=0)
        body = {"apiVersion": "serve.sglang.io/v1alpha1", "kind": "SGLangEndpoint", "status": {"reason": "Asked"}}
        try:
            await on.api.apply(ENDPOINT.of(*key, "status"), body)
        except ApiError:
            return not knows
        finally:
            await on.api.delete(ENDPOINT.of(*key))
        return knows

    await until(is_so)
