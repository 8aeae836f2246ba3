"""What stands in the way of a pass: edits of others, a wrong spec, a taken name, a kill after any write, a quota."""

from __future__ import annotations

from contextlib import suppress

import pytest
from apiserver.passes import KilledError, Passes, until
from apiserver.test_reconcile import Run, run

from sglang_operator.cluster.paths import BUDGET, ENDPOINT, POLICY, RAY_CLUSTER, RAY_SERVICE, SERVICE

__all__ = ["run"]  # a fixture


def test_what_somebody_edits_or_deletes_is_put_back(run: Run) -> None:
    async def body(on: Passes) -> None:
        key = await on.create(replicas=2)
        await on.settle(key)
        wanted = await on.everything()
        name = (await on.one(RAY_SERVICE))["metadata"]["name"]
        await on.api.patch(
            SERVICE.of(*key),
            {"spec": {"selector": {"app": "mine"}}, "metadata": {"labels": {"serve.sglang.io/endpoint": "smollm2"}}},
        )
        await on.api.patch(RAY_SERVICE.of(on.namespace, name), {"spec": {"serveConfigV2": "applications: []"}})
        await on.api.delete(POLICY.of(*key))
        await on.api.patch(BUDGET.of(*key), {"spec": {"minAvailable": 0}})
        await on.settle(key)
        after = await on.everything()
        assert after["RayService"] == wanted["RayService"]
        assert after["NetworkPolicy"] == wanted["NetworkPolicy"]
        assert after["PodDisruptionBudget"] == wanted["PodDisruptionBudget"]
        selector = after["Service"][0]["spec"]["selector"]
        assert selector["serve.sglang.io/revision"] == ""

    run(body)


def test_a_wrong_spec_is_explained_and_changes_nothing(run: Run) -> None:
    async def body(on: Passes) -> None:
        key = await on.create()
        await on.settle(key)
        wanted = await on.everything()
        await on.edit(key, engine={"args": {"no_such_argument": 1}})
        await on.settle(key)
        accepted = await on.condition(key, "Accepted")
        assert (accepted["status"], accepted["reason"]) == ("False", "InvalidSpec")
        assert "spec.engine.args.no_such_argument" in accepted["message"]
        assert await on.everything() == wanted
        assert (await on.condition(key, "Progressing"))["observedGeneration"] == 1  # what is known of the rest stays
        await on.edit(key, engine={"args": None})
        await on.settle(key)
        assert (await on.condition(key, "Accepted"))["status"] == "True"

    run(body)


def test_an_object_of_somebody_else_is_left_alone(run: Run) -> None:
    async def body(on: Passes) -> None:
        foreign = {"metadata": {"name": "smollm2"}, "spec": {"ports": [{"port": 1}], "selector": {"app": "theirs"}}}
        await on.api.create(SERVICE.of(on.namespace), {"apiVersion": "v1", "kind": "Service", **foreign})
        key = await on.create()
        await on.settle(key)
        progressing = await on.condition(key, "Progressing")
        assert progressing["reason"] == "NameTaken"
        assert "Service smollm2" in progressing["message"]
        assert (await on.one(SERVICE))["spec"]["selector"] == {"app": "theirs"}
        await on.api.delete(SERVICE.of(*key))
        await on.settle(key)
        assert (await on.condition(key, "Progressing"))["reason"] == "StartingRevision"

    run(body)


def test_killed_after_any_write_the_next_process_finishes(run: Run) -> None:
    async def body(on: Passes) -> None:
        reference = await on.create(replicas=2)
        await on.settle(reference)
        wanted = await on.everything()
        writes = len(on.written)
        await on.remove(reference)
        assert writes > 5
        for kill_after in range(writes):
            key = await on.create(replicas=2)
            on.kill_after[:] = [kill_after]
            with suppress(KilledError):
                await on.settle(key)
            on.kill_after.clear()
            await on.settle(key)
            assert await on.everything() == wanted, f"killed after {kill_after} writes"
            await on.remove(key)

    run(body)


@pytest.mark.parametrize(("refused", "has_status"), [("pods", True), ("count/serviceaccounts", False)])
def test_a_quota_that_refuses_the_pods_is_told(run: Run, refused: str, has_status: bool) -> None:
    """KubeRay tries again by itself, and only its event says why nothing comes."""

    async def body(on: Passes) -> None:
        quota = {"metadata": {"name": "none"}, "spec": {"hard": {refused: "0"}}}
        await on.api.create(f"/api/v1/namespaces/{on.namespace}/resourcequotas", quota)
        key, operator = await on.create(), on.operator()

        async def told() -> bool:
            await operator.reconcile(key)
            endpoint = await on.api.get(ENDPOINT.of(*key))
            found = {one["type"]: one for one in endpoint["status"]["conditions"]}
            return found["Progressing"]["reason"] == "PodsBlocked" and "exceeded quota" in found["Degraded"]["message"]

        await until(told)
        (cluster,) = await on.api.list(RAY_CLUSTER.of(on.namespace))
        assert bool(cluster.get("status")) == has_status, "without one, a complaint says that KubeRay is not silent"

    run(body)
