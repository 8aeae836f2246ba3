"""Endpoints for the cases of rules: each with one part that a rule is about."""

from __future__ import annotations

from typing import Any

from unit.api_objects import endpoint


def named(name: str) -> dict[str, Any]:
    obj = endpoint()
    obj["metadata"]["name"] = name
    return obj


def model(**fields: Any) -> dict[str, Any]:
    return endpoint(model=fields)


def tolerate(**fields: Any) -> dict[str, Any]:
    return endpoint(scheduling={"tolerations": [fields]})


def spread(count: int, **parallelism: int) -> dict[str, Any]:
    return endpoint(accelerator={"count": count}, parallelism=parallelism)


def adapters(*uris: str, lora: dict[str, Any] | None = None, **model: Any) -> dict[str, Any]:
    """With adapters a, b, … at these addresses."""
    named = [{"name": chr(ord("a") + index), "uri": uri} for index, uri in enumerate(uris)]
    return endpoint(model={"uri": "hf://org/m", "lora": lora or {}, "adapters": named, **model})


def one_node(**spec: Any) -> dict[str, Any]:
    """With a cache that the pods of one node can mount."""
    cached = {"uri": "hf://a/b", "cache": {"accessMode": "ReadWriteOnce"}}
    return endpoint(**{"model": cached, "upgrade": {"strategy": "Recreate"}, **spec})


def variable(**fields: Any) -> dict[str, Any]:
    return endpoint(engine={"env": [{"name": "A", **fields}]})


def allowed(*peers: dict[str, Any]) -> dict[str, Any]:
    return endpoint(api={"allowFrom": list(peers)})


def compared(**expression: Any) -> dict[str, Any]:
    """With one condition on a label, of pods."""
    return allowed({"podSelector": {"matchExpressions": [{"key": "k", **expression}]}})


def published(**ingress: Any) -> dict[str, Any]:
    return endpoint(api={"allowAnonymous": True, "ingress": ingress})


def routed(*gateways: dict[str, Any]) -> dict[str, Any]:
    return endpoint(api={"allowAnonymous": True, "route": {"parentRefs": list(gateways)}})
