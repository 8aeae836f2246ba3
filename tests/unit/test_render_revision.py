"""The name of a revision changes with every [R] field, and with nothing else."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel
from unit.api_objects import endpoint

from sglang_operator.api import EndpointSpec, parse_endpoint
from sglang_operator.api.fields import part_of
from sglang_operator.api.spec_model import SecretKey, SecretRef
from sglang_operator.render import render_endpoint, revision_name
from sglang_operator.render.revision import IN_PLACE

BASE = {
    "model": {"uri": "hf://org/model", "cache": {}},
    "accelerator": {"count": 8},
    "engine": {"image": "registry.example.com/ours:1"},
    "api": {"allowAnonymous": True, "ingress": {"tls": {}}, "route": {"parentRefs": [{"name": "gateway"}]}},
    "highAvailability": {"redis": {"address": "redis:6379"}},
    "network": {"rdma": {"resourceName": "rdma/shared"}},
}
# Every field of the API, and a value that BASE does not have.
CHANGES: dict[str, Any] = {
    "replicas": 2,
    "scaling.min": 2,
    "scaling.max": 5,
    "scaling.targetOngoingRequests": 8,
    "scaling.upscaleDelaySeconds": 8,
    "scaling.downscaleDelaySeconds": 8,
    "scaling.idleSecondsBeforeZero": 8,
    "scaling.holdSeconds": 8,
    "paused": True,
    "restartToken": "again",
    "task": "embed",
    "serviceAccountName": "reader",
    "model.uri": "hf://org/other",
    "model.revision": "v2",
    "model.servedName": "other",
    "model.tokenSecret": {"name": "hf", "key": "token"},
    "model.storageSecret": {"name": "s3"},
    "model.cache.claimName": "ours",
    "model.cache.size": "1Gi",
    "model.cache.storageClassName": "fast",
    "model.cache.accessMode": "ReadWriteOnce",
    "model.cache.reclaim": "Delete",
    "model.lora.maxRank": 8,
    "model.lora.targetModules": ["q_proj"],
    "model.lora.maxLoaded": 2,
    "model.lora.claimName": "adapters",
    "model.adapters": [{"name": "sql", "uri": "hf://org/sql-lora"}],
    "accelerator.vendor": "amd",
    "accelerator.count": 4,
    "accelerator.products": ["H100"],
    "accelerator.resourceName": "example.com/gpu",
    "parallelism.tensor": 8,  # computed defaults are not hashed: a later version may compute others
    "parallelism.pipeline": 2,
    "parallelism.data": 2,
    "parallelism.attentionData": 2,
    "parallelism.expert": 2,
    "parallelism.nodes": 2,
    "resources.cpu": "3",
    "resources.memory": "3Gi",
    "resources.sharedMemory": "3Gi",
    "resources.ephemeralStorage": "3Gi",
    "head.cpu": "3",
    "head.memory": "3Gi",
    "scheduling.nodeSelector": {"pool": "a"},
    "scheduling.tolerations": [{"key": "a", "operator": "Exists"}],
    "scheduling.priorityClassName": "high",
    "scheduling.queueName": "queue",
    "network.rdma.resourceName": "rdma/hca",
    "network.rdma.count": 2,
    "engine.image": "registry.example.com/ours:2",
    "engine.imagePullSecrets": [{"name": "pull"}],
    "engine.args": {"log_level": "warning"},
    "engine.argsCheck": "Warn",
    "engine.env": [{"name": "A", "value": "1"}],
    "api.keysSecret": {"name": "keys"},
    "api.adminKeySecret": {"name": "admin", "key": "key"},
    "api.allowAnonymous": True,
    "api.allowFrom": [{"podSelector": {}}],
    "api.unknownModel": "NotFound",
    "api.service.type": "NodePort",
    "api.service.port": 8080,
    "api.service.annotations": {"a": "b"},
    "api.ingress.className": "nginx",
    "api.ingress.host": "a.example.com",
    "api.ingress.path": "/a",
    "api.ingress.annotations": {"a": "b"},
    "api.ingress.tls.secretName": "tls",
    "api.route.parentRefs": [{"name": "other"}],
    "api.route.hostnames": ["a.example.com"],
    "api.limits.maxBodyBytes": 4096,
    "highAvailability.redis.address": "valkey:6379",
    "highAvailability.redis.passwordSecret": {"name": "redis", "key": "password"},
    "highAvailability.spread": "Zone",
    "upgrade.strategy": "Recreate",
    "upgrade.whenNoCapacity": "Recreate",
    "upgrade.capacityTimeoutSeconds": 60,
    "upgrade.progressDeadlineSeconds": 60,
    "upgrade.drainSeconds": 60,
    "upgrade.minReadySeconds": 60,
    "upgrade.keepFailedSeconds": 60,
    "upgrade.historyLimit": 1,
    "podTemplate.head": {"metadata": {"annotations": {"a": "b"}}},
    "podTemplate.worker": {"metadata": {"annotations": {"a": "b"}}},
}
# What a field goes with, where BASE has it not.
ROOM: dict[str, Any] = {"model": {"uri": "hf://org/model", "lora": {}}}
OTHER_BASES: dict[str, Any] = {
    "scaling.": {**BASE, "scaling": {"min": 0, "max": 4}},  # not in BASE: it excludes spec.replicas
    "model.storageSecret": {"model": {"uri": "s3://models/m"}},
    "model.cache.accessMode": {**BASE, "upgrade": {"strategy": "Recreate"}},
    "model.lora.": ROOM,
    "model.adapters": ROOM,
}


def fields(part: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, bool]]:
    """(path, whether its description says [R]) of every field that is a value of its own."""
    for name, info in part.model_fields.items():
        path = prefix + (info.alias or name)
        inner = part_of(info)
        if inner is None or inner in (SecretRef, SecretKey) or "tuple" in str(info.annotation):
            yield path, "[R]" in (info.description or "")
        else:
            yield from fields(inner, f"{path}.")


FIELDS = dict(fields(EndpointSpec))


def named(spec: dict[str, Any]) -> str:
    return revision_name(parse_endpoint(endpoint(**spec)))


def base_of(path: str) -> dict[str, Any]:
    """BASE, or what has room for a field that goes with another model."""
    return next((base for start, base in OTHER_BASES.items() if path.startswith(start)), BASE)


def with_change(path: str) -> dict[str, Any]:
    spec: dict[str, Any] = copy.deepcopy(base_of(path))
    *parents, last = path.split(".")
    part: dict[str, Any] = spec
    for key in parents:
        part = part.setdefault(key, {})
    part[last] = CHANGES[path]
    return spec


def test_the_table_has_every_field() -> None:
    assert set(CHANGES) == set(FIELDS)


@pytest.mark.parametrize("path", sorted(CHANGES))
def test_a_change_of_the_field_makes_a_revision_if_its_description_says_so(path: str) -> None:
    assert (named(with_change(path)) != named(base_of(path))) == FIELDS[path]


# What objects do not show: each with what it does instead.
OUT_OF_SIGHT = {
    "paused": "the operator writes nothing",
    "restartToken": "only that it is another one",
    "parallelism.tensor": "computed from accelerator.count where it is not written",
    "engine.argsCheck": "how engine.args are judged",
    "api.allowAnonymous": "a warning that an endpoint without keys is reachable from outside",
    "model.cache.reclaim": "who owns the volume claim, as the cluster's uid of the endpoint is known",
    **{
        f"upgrade.{name}": "how the operator goes from one revision to the next"
        for name in (
            *("strategy", "whenNoCapacity", "capacityTimeoutSeconds", "progressDeadlineSeconds"),
            *("minReadySeconds", "keepFailedSeconds", "historyLimit"),
        )
    },
}


def shown(spec: dict[str, Any]) -> str:
    """What is rendered, but for what any change changes: the revision's name, and the digest of what goes in place."""
    parsed = parse_endpoint(endpoint(**spec))
    text = json.dumps(render_endpoint(parsed), sort_keys=True).replace(revision_name(parsed), "REVISION")
    masked, count = re.subn(r"\bconfig_id: \w+", "config_id: ID", text)
    assert count == 1
    return masked


@pytest.mark.parametrize("path", sorted(CHANGES))
def test_a_field_is_there_because_it_does_something(path: str) -> None:
    assert (shown(with_change(path)) != shown(base_of(path))) == (path not in OUT_OF_SIGHT)


def test_a_default_that_is_written_out_says_more_than_nothing() -> None:
    """Another default may be in effect where nothing is written. tests/unit/test_cluster_records.py: no rollout."""
    minimal = {"model": {"uri": "hf://org/model"}}
    assert named({**minimal, "accelerator": {"vendor": "nvidia"}}) != named(minimal)
    assert named({**minimal, "accelerator": {}, "scheduling": {}, "replicas": 1}) == named(minimal)


def test_an_optional_object_counts_by_being_there() -> None:
    model = {"uri": "hf://org/model"}
    assert named({"model": {**model, "cache": {}}}) != named({"model": model})


def test_in_place_names_only_fields_that_exist() -> None:
    assert all(any(f"{path}.".startswith(f"{entry}.") for path in FIELDS) for entry in IN_PLACE)


def test_the_name_is_one_of_a_ray_service() -> None:
    longest = parse_endpoint({**endpoint(), "metadata": {"name": "a" * 38}})
    assert re.fullmatch(r"a{38}-[a-z2-7]{8}", revision_name(longest))


def test_names_of_this_version_stay_what_they_are() -> None:
    """Records of released versions carry these names: a change here rolls every endpoint out there."""
    assert named({"model": {"uri": "hf://org/model"}}) == "qwen3-gme3ahe5"
    later = {"highAvailability", "network"}  # came with a later version
    assert named({name: part for name, part in BASE.items() if name not in later}) == "qwen3-updwnwil"


def test_templates_are_not_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = parse_endpoint(endpoint(**BASE))
    before = next(one["metadata"]["name"] for one in render_endpoint(parsed) if one["kind"] == "RayService")
    monkeypatch.setattr("sglang_operator.render.context.KILL_SECONDS", 61)
    after = next(one["metadata"]["name"] for one in render_endpoint(parsed) if one["kind"] == "RayService")
    assert before == after
