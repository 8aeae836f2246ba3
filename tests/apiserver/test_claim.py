"""The claim of the model cache, on a real API server."""

from __future__ import annotations

from typing import Any

from apiserver.passes import Passes, until
from apiserver.test_reconcile import Run, run

from sglang_operator.cluster.paths import CLAIM, ENDPOINT

__all__ = ["run"]  # a fixture
CACHED = {"uri": "hf://HuggingFaceTB/SmolLM2-135M-Instruct"}
SMALL = {"size": "1Gi", "storageClassName": "none"}


def test_the_claim_of_the_cache_stays_or_goes_as_reclaim_says(run: Run) -> None:
    async def body(on: Passes) -> None:
        key = await on.create(
            model={**CACHED, "cache": {"size": "1Gi", "storageClassName": "none", "reclaim": "Delete"}}
        )
        await on.settle(key)
        made = await on.one(CLAIM)
        assert [owner["kind"] for owner in made["metadata"]["ownerReferences"]] == ["SGLangEndpoint"]
        await on.edit(key, model={"cache": {"reclaim": "Retain"}})
        await on.settle(key)
        kept = await on.one(CLAIM)
        assert kept["metadata"]["uid"] == made["metadata"]["uid"]
        assert "ownerReferences" not in kept["metadata"]
        await on.api.delete(ENDPOINT.of(*key))
        await until(lambda: only_the_claim_is_left(on))
        assert (await on.one(CLAIM))["metadata"]["uid"] == made["metadata"]["uid"]

        key = await on.create(model={**CACHED, "cache": SMALL})
        await on.settle(key)
        await on.edit(key, model={"cache": {"reclaim": "Delete"}})
        await on.settle(key)
        assert (await on.one(CLAIM))["metadata"]["uid"] == made["metadata"]["uid"], (
            "of an earlier endpoint of this name"
        )
        await on.remove(key)
        assert await on.objects(CLAIM) == []

    run(body)


def test_a_larger_cache_enlarges_its_claim_or_the_refusal_is_told(run: Run) -> None:
    async def body(on: Passes) -> None:
        classes = "/apis/storage.k8s.io/v1/storageclasses"
        volumes = "/api/v1/persistentvolumes"
        name = on.namespace
        storage_class = {"metadata": {"name": name}, "provisioner": "example.com/none", "allowVolumeExpansion": False}
        await on.api.create(classes, {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", **storage_class})
        await on.api.create(volumes, volume(name))
        key = await on.create(model={**CACHED, "cache": {"size": "1Gi", "storageClassName": name}})

        async def bound() -> bool:
            await on.settle(key)
            return bool((await on.one(CLAIM))["status"]["phase"] == "Bound")

        await until(bound)
        await on.edit(key, model={"cache": {"size": "2Gi"}})
        await on.settle(key)  # comes to rest: it does not ask again and again
        accepted = await on.condition(key, "Accepted")
        assert accepted["status"] == "True"
        assert "spec.model.cache.size: the cluster refuses to enlarge" in accepted["message"]
        assert (await on.condition(key, "Progressing"))["reason"] == "StartingRevision"
        await on.api.patch(f"{classes}/{name}", {"allowVolumeExpansion": True})
        await on.edit(key, model={"cache": {"size": "3Gi"}})
        await on.settle(key)
        assert (await on.one(CLAIM))["spec"]["resources"]["requests"]["storage"] == "3Gi"
        assert (await on.condition(key, "Accepted"))["message"] == "the spec is valid"
        await on.api.delete(f"{volumes}/{name}")
        await on.api.delete(f"{classes}/{name}")

    run(body)


def volume(name: str) -> dict[str, Any]:
    spec = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteMany"],
        "storageClassName": name,
        "hostPath": {"path": "/nowhere"},
    }
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}


async def only_the_claim_is_left(on: Passes) -> bool:
    return [kind for kind, found in (await on.everything()).items() if found] == [CLAIM.name]
