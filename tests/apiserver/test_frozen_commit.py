"""What a branch of the hub was for the first Ray cluster of a revision, all its later ones are told."""

from __future__ import annotations

import yaml
from apiserver.rollouts import Object, Stage
from apiserver.test_conditions import EDIT, Run, run

from sglang_operator.cluster.metadata import name_of
from sglang_operator.cluster.paths import RAY_CLUSTER, RAY_SERVICE
from sglang_operator.cluster.types import Key

__all__ = ["run"]
FIRST, SECOND = "1" * 40, "2" * 40
RECREATE: Object = {"upgrade": {"strategy": "Recreate"}}


async def told(on: Stage, revision: str) -> str:
    """The commit that replicas of a revision start with."""
    live = await on.api.get(RAY_SERVICE.of(on.on.namespace, revision))
    (deployment,) = yaml.safe_load(live["spec"]["serveConfigV2"])["applications"][0]["deployments"]
    return str(deployment["user_config"]["model_commit"])


async def cluster(on: Stage) -> str:
    (one,) = await on.api.list(RAY_CLUSTER.of(on.on.namespace))
    return str(one["metadata"]["uid"])


async def settle_with(on: Stage, key: Key, commit: str) -> str:
    """The revision that the spec asks for serves, and the operator has nothing left to do. The branch is `commit`."""
    on.engines.commit = commit
    revision = await on.serve(key)
    await on.on.settle(key)
    return revision


def test_a_revision_that_comes_back_serves_the_commit_of_its_first_ray_cluster(run: Run) -> None:
    """Recreate: the rollback makes all of it anew."""

    async def body(on: Stage, key: Key) -> None:
        first = await settle_with(on, key, FIRST)
        assert (await told(on, first), (await on.revision(key, first))["modelCommit"]) == (FIRST, FIRST)

        on.outages = True
        await on.on.edit(key, **EDIT)
        second = await settle_with(on, key, SECOND)
        assert second != first
        assert await told(on, second) == SECOND, "it is another revision"

        await on.on.edit(key, engine=None)
        await on.until(lambda: is_made(on, first), key)
        assert await told(on, first) == FIRST, "with its first replica, before any has answered"
        assert await settle_with(on, key, SECOND) == first
        assert await told(on, first) == (await on.revision(key, first))["modelCommit"] == FIRST

    run(body, **RECREATE)


async def is_made(on: Stage, revision: str) -> bool:
    return revision in await on.names(RAY_SERVICE.plural)


def test_no_pod_is_replaced_for_it_and_a_ray_cluster_that_kuberay_makes_anew_is_told_of_it(run: Run) -> None:
    async def body(on: Stage, key: Key) -> None:
        on.engines.commit = FIRST
        revision = await on.serve(key)
        before = await cluster(on)
        await on.on.settle(key)
        assert (await told(on, revision), await cluster(on)) == (FIRST, before)

        on.outages = True
        (lost,) = await on.api.list(RAY_CLUSTER.of(key.namespace))
        await on.api.delete(RAY_CLUSTER.of(key.namespace, name_of(lost)))
        await settle_with(on, key, SECOND)
        assert await cluster(on) != before
        assert await told(on, revision) == FIRST, "KubeRay gives it to the new one"

        await on.api.delete(RAY_SERVICE.of(key.namespace, revision))
        await settle_with(on, key, SECOND)
        assert await told(on, revision) == FIRST, "restored from the record"

    run(body)
