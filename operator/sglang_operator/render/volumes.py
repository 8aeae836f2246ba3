"""Volumes of pods: where models lie, and Secrets as directories."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sglang_operator.api import Endpoint
from sglang_operator.render import names

PVC_SCHEME = "pvc://"


@dataclass(frozen=True)
class Volume:
    """A volume of a pod, and where the first container sees it. One that it sees twice has two of the same name."""

    name: str
    source: Mapping[str, Any]
    path: str
    read_only: bool = True


def worker_volumes(endpoint: Endpoint) -> tuple[Volume, ...]:
    """Everything a worker mounts besides /dev/shm."""
    return (_cache(endpoint), *_models(endpoint), *_keys(endpoint))


def head_volumes(endpoint: Endpoint) -> tuple[Volume, ...]:
    """What a head mounts: it knows the keys, so that no wrong one starts a replica. Also while `scaling.min` is above
    zero, which changes in place, under a pod that stays as it is."""
    return tuple(_keys(endpoint))


def _cache(endpoint: Endpoint) -> Volume:
    """Where models are downloaded to; without `spec.model.cache` it ends with the pod."""
    cache = endpoint.spec.model.cache
    if cache is None:
        return Volume("model-cache", {"emptyDir": {}}, names.CACHE_DIR, read_only=False)
    source = _claim(cache.claim_name or names.cache_claim(endpoint.name), read_only=False)
    return Volume("model-cache", source, names.CACHE_DIR, read_only=False)


def _models(endpoint: Endpoint) -> Iterator[Volume]:
    uri, cache = endpoint.spec.model.uri, _cache(endpoint)
    if uri.startswith(PVC_SCHEME):
        yield _mounted("model", uri.removeprefix(PVC_SCHEME).partition("/")[0], cache)
    lora = endpoint.spec.model.lora
    if lora and lora.claim_name and not f"{uri}/".startswith(f"{PVC_SCHEME}{lora.claim_name}/"):
        yield _mounted("adapters", lora.claim_name, cache)


def _mounted(name: str, claim: str, cache: Volume) -> Volume:
    """A claim that is only read. The cache's own is mounted a second time from the same volume: with two volumes of one
    claim in a pod older kubelets wait for ever without a word, and newer ones mount all of it read-only."""
    path = f"{names.PVC_ROOT}/{claim}"
    if cache.source == _claim(claim, read_only=False):
        return Volume(cache.name, cache.source, path)
    return Volume(name, _claim(claim, read_only=True), path)


def _keys(endpoint: Endpoint) -> Iterator[Volume]:
    """As directories, never by subPath: those are not updated when the Secret changes."""
    api = endpoint.spec.api
    if api.keys_secret:
        yield Volume("api-keys", {"secret": {"secretName": api.keys_secret.name}}, names.KEYS_DIR)
    if api.admin_key_secret:
        key = api.admin_key_secret.key
        secret = {"secretName": api.admin_key_secret.name, "items": [{"key": key, "path": key}]}
        yield Volume("admin-key", {"secret": secret}, names.ADMIN_DIR)


def _claim(name: str, *, read_only: bool) -> dict[str, Any]:
    return {"persistentVolumeClaim": {"claimName": name, **({"readOnly": True} if read_only else {})}}
