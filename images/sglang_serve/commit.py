"""Which commit a branch of the hub is, for all replicas and nodes of one Ray cluster.

Why: docs/adr/0014-one-commit-for-a-ray-cluster.md. What an earlier Ray cluster of the same revision has found, the
operator tells in `LiveArgs`: docs/adr/0018-one-commit-for-a-revision.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from sglang_serve.args import ServeArgs

NAMESPACE = b"sglang-serve"


class Store(Protocol):
    """What all of them see."""

    def get(self, key: str) -> str:
        """The value, "" if there is none."""

    def put(self, key: str, value: str) -> None:
        """Note a value, unless there is one."""


class Alone:
    """For a replica that has none beside it."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    def get(self, key: str) -> str:
        """The value, "" if there is none."""
        return self._values.get(key, "")

    def put(self, key: str, value: str) -> None:
        """Note a value, unless there is one."""
        self._values.setdefault(key, value)


class RayStore:
    """The key-value store of the Ray cluster's head. It ends with the head, unless that has Redis."""

    def get(self, key: str) -> str:
        """The value, "" if there is none."""
        from ray.experimental import internal_kv  # noqa: PLC0415 - ray is in the engine environment only

        return (internal_kv._internal_kv_get(key, namespace=NAMESPACE) or b"").decode()

    def put(self, key: str, value: str) -> None:
        """Note a value, unless there is one."""
        from ray.experimental import internal_kv  # noqa: PLC0415 - as above

        internal_kv._internal_kv_put(key, value, overwrite=False, namespace=NAMESPACE)


def agreed(store: Store, serve_args: ServeArgs, resolve: Callable[[], str]) -> str:
    """The commit that the first replica found. `resolve` finds it; "": the model has no commit."""
    key = _key(serve_args)
    if known := store.get(key):
        return known
    if found := resolve():
        store.put(key, found)
        return store.get(key)  # of two that asked at the same time the first counts
    return ""


def _key(serve_args: ServeArgs) -> str:
    """Of a revision of the endpoint; without an operator it has no name, and another model may come."""
    model = serve_args.model
    return f"commit {serve_args.endpoint} {serve_args.revision} {model.uri} {model.revision}"
