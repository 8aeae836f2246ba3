"""Endpoints for the tests of the API: valid ones, and strategies that make many."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import strategies as st

from sglang_operator.api import FieldError, InvalidEndpoint, parse_endpoint

Json = dict[str, Any]


def endpoint(**spec: Any) -> Json:
    """A minimal endpoint; `spec` replaces whole parts by their names in YAML."""
    return {
        "apiVersion": "serve.sglang.io/v1alpha1",
        "kind": "SGLangEndpoint",
        "metadata": {"name": "qwen3"},
        "spec": copy.deepcopy({"model": {"uri": "hf://Qwen/Qwen3-8B"}, **spec}),
    }


def _some(**optional: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    return st.fixed_dictionaries({}, optional=optional)


_ranks = st.integers(1, 4)
_text = st.sampled_from(["", "a", "b"])
_secret = st.just({"name": "s"})
_secret_key = st.just({"name": "s", "key": "k"})
_env_source = _some(secretKeyRef=_secret_key, configMapKeyRef=_secret_key)
_env = st.fixed_dictionaries({"name": st.sampled_from(["A", "B"])}, optional={"value": _text, "valueFrom": _env_source})
_toleration = _some(
    key=_text,
    operator=st.sampled_from(["Exists", "Equal"]),
    value=_text,
    effect=st.sampled_from(["", "NoSchedule", "NoExecute"]),
    tolerationSeconds=st.integers(0, 9),
)
_uris = [
    "hf://a/b",
    "pvc://c/d/e",
    "pvc://c",
    "file:///m/x",
    "s3://a/b",
    "s3://abc/b",
    "gs://abc",
    "a/b",
    "file://x",
    "hf://a/..",
    "pvc://c/../d",
]
_cache = _some(
    accessMode=st.sampled_from(["ReadWriteOnce", "ReadWriteMany"]),
    claimName=_text,
    reclaim=st.sampled_from(["Retain", "Delete"]),
)


_condition: st.SearchStrategy[Json] = st.fixed_dictionaries(
    {"key": st.just("k"), "operator": st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist"])},
    optional={"values": st.sampled_from([[], ["a"]])},
)
_selector = _some(matchLabels=st.just({"a": "b"}), matchExpressions=st.lists(_condition, max_size=2))
_peer = _some(podSelector=_selector, namespaceSelector=_selector, ipBlock=st.just({"cidr": "10.0.0.0/8"}))


def _name(adapter: Json) -> str:
    return str(adapter["name"])


_adapter: st.SearchStrategy[Json] = st.fixed_dictionaries(
    {"name": st.sampled_from(["m", "b", "x"]), "uri": st.sampled_from(_uris)}
)
_modules: st.SearchStrategy[list[str]] = st.lists(st.sampled_from(["all", "q_proj"]), min_size=1, unique=True)
_model: st.SearchStrategy[Json] = st.fixed_dictionaries(
    {"uri": st.sampled_from(_uris)},
    optional={
        "tokenSecret": _secret_key,
        "storageSecret": _secret,
        "cache": _cache,
        "servedName": st.just("m"),
        "lora": _some(
            maxLoaded=st.integers(1, 2),
            claimName=st.sampled_from(["", "c"]),
            targetModules=_modules,
        ),
        "adapters": st.lists(_adapter, max_size=3, unique_by=_name),
    },
)

# Specs whose fields have the right types and bounds; rules across fields may be broken.
well_formed_specs = st.fixed_dictionaries(
    {"model": _model},
    optional={
        "replicas": st.integers(0, 2),
        "scaling": st.fixed_dictionaries({"max": st.integers(1, 3)}, optional={"min": st.integers(0, 3)}),
        "accelerator": _some(
            vendor=st.sampled_from(["nvidia", "amd", "cpu"]),
            count=_ranks,
            products=st.sampled_from([[], ["H100"]]),
            resourceName=st.sampled_from(["", "nvidia.com/mig-1g.10gb"]),
        ),
        "parallelism": _some(
            tensor=_ranks, pipeline=_ranks, data=_ranks, attentionData=_ranks, expert=_ranks, nodes=_ranks
        ),
        "resources": _some(cpu=st.sampled_from([1, "1", "500m"]), memory=st.sampled_from(["1Gi", "1.5G"])),
        "scheduling": _some(tolerations=st.lists(_toleration, max_size=2)),
        "engine": _some(
            image=_text,
            argsCheck=st.sampled_from(["Strict", "Warn"]),
            env=st.lists(_env, max_size=2, unique_by=lambda variable: variable["name"]),
        ),
        "api": _some(
            keysSecret=_secret,
            allowAnonymous=st.booleans(),
            allowFrom=st.lists(_peer, max_size=2),
            service=_some(type=st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer"])),
            ingress=_some(host=st.sampled_from(["", "llm.example.org"])),
            route=st.just({"parentRefs": [{"name": "gateway"}]}),
        ),
        "upgrade": _some(strategy=st.sampled_from(["BlueGreen", "Recreate"])),
        "highAvailability": _some(
            redis=st.fixed_dictionaries(
                {"address": st.sampled_from(["redis:6379", "rediss://r.example.org:6380"])},
                optional={"passwordSecret": _secret_key},
            )
        ),
    },
)


def of_model(**fields: Any) -> dict[str, Any]:
    return {"model": {"uri": "hf://a/b", **fields}}


def refused(obj: Any) -> tuple[FieldError, ...]:
    with pytest.raises(InvalidEndpoint) as caught:
        parse_endpoint(obj)
    return caught.value.errors


def only_error(obj: Any) -> FieldError:
    errors = refused(obj)
    assert len(errors) == 1, errors
    return errors[0]
