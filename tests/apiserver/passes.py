"""Passes of the real reconciler over a real API server, with the requests counted and faults to order."""

from __future__ import annotations

import asyncio
import copy
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from kubernetes.aio import config
from kubernetes.aio.client import Configuration
from waiting import PATIENCE

from sglang_operator.cluster.api import Api, ApiError
from sglang_operator.cluster.paths import ENDPOINT, KINDS, Kind
from sglang_operator.cluster.probe import Prober
from sglang_operator.cluster.reconcile import Reconciler
from sglang_operator.cluster.types import Key, Result

ROOT = Path(__file__).parents[2]
WRITES = ("POST", "PATCH", "PUT", "DELETE")
# What the operator makes.
MADE = {name: kind for name, kind in KINDS.items() if name not in ("SGLangEndpoint", "Pod", "RayCluster")}
Object = dict[str, Any]


async def until(check: Callable[[], Awaitable[bool]], seconds: float = 60) -> None:
    """Wait for what the cluster makes true, and no task of ours. TimeoutError after `seconds`, times PATIENCE."""
    async with asyncio.timeout(seconds * PATIENCE):
        while not await check():  # noqa: ASYNC110 - as said
            await asyncio.sleep(0.1)


class KilledError(BaseException):
    """The process ended here."""


@dataclass
class Passes:
    """One namespace, one endpoint at a time."""

    api: Api
    namespace: str
    written: list[str]
    kill_after: list[int]
    """Writes until the next one ends the process; empty: never."""
    asked: list[str] = field(default_factory=list)
    """All requests, those of the test as well."""
    prober: Prober = field(default_factory=Prober)
    clock: Callable[[], float] = time.time
    options: dict[str, Any] = field(default_factory=dict)

    def operator(self) -> Reconciler:
        """A new process: nothing in memory."""
        return Reconciler(self.api, self.prober, self.clock, **self.options)

    def key(self, name: str = "smollm2") -> Key:
        return Key(self.namespace, name)

    async def create(self, example: str = "smollm2", **spec: Any) -> Key:
        manifest = yaml.safe_load((ROOT / "examples" / f"{example}.yaml").read_text())
        manifest["metadata"]["namespace"] = self.namespace
        manifest["spec"].update(copy.deepcopy(spec))
        await self.api.create(ENDPOINT.of(self.namespace), manifest)
        return self.key(manifest["metadata"]["name"])

    async def edit(self, key: Key, **spec: Any) -> None:
        await self.api.patch(ENDPOINT.of(*key), {"spec": spec})

    async def remove(self, key: Key) -> None:
        """Delete the endpoint, and wait until all that it owned is gone: what only goes still has its name."""
        await self.api.delete(ENDPOINT.of(*key))
        await until(self._is_gone)

    async def _is_gone(self) -> bool:
        return not [item for kind in MADE.values() for item in await self._listed(kind)]

    async def settle(self, key: Key, operator: Reconciler | None = None) -> Result:
        """Pass after pass until one writes nothing."""
        operator = operator or self.operator()
        for _ in range(60):
            before = len(self.written)
            try:
                result = await operator.reconcile(key)
            except ApiError as error:  # Kubernetes' own controllers write as well, between a read and a write of ours
                if not error.is_conflict:
                    raise
                continue
            if len(self.written) == before:
                return result
        raise AssertionError(f"it never came to rest: {self.written[-10:]}")

    async def objects(self, kind: Kind) -> list[Object]:
        """Those that stay and that KubeRay has not made."""
        return [
            item
            for item in await self._listed(kind)
            if "deletionTimestamp" not in item["metadata"]
            and not any(owner["kind"].startswith("Ray") for owner in item["metadata"].get("ownerReferences") or ())
        ]

    async def one(self, kind: Kind) -> Object:
        (found,) = await self.objects(kind)
        return found

    async def condition(self, key: Key, name: str) -> Object:
        status = (await self.api.get(ENDPOINT.of(*key)))["status"]
        return next(one for one in status["conditions"] if one["type"] == name)

    async def everything(self) -> dict[str, list[Object]]:
        """All that the operator makes, without what differs from one run to the next."""
        return {name: [_essence(item) for item in await self.objects(kind)] for name, kind in MADE.items()}

    async def _listed(self, kind: Kind) -> list[Object]:
        try:
            return await self.api.list(kind.of(self.namespace))
        except ApiError as error:
            if error.is_absent:
                return []
            raise


def _essence(item: Object) -> Object:
    metadata = item["metadata"]
    kept = {key: metadata[key] for key in ("name", "labels", "annotations") if key in metadata}
    found: Object = {key: item[key] for key in ("spec", "data", "revision") if key in item}
    if "spec" in found:
        found["spec"] = {key: value for key, value in found["spec"].items() if not key.startswith("clusterIP")}
    return {"metadata": kept, **found}


async def open_api(kubeconfig: Path, *hooks: Any) -> Api:
    """Requests as its user. `hooks`: see Api."""
    return Api(await configuration_of(kubeconfig), *hooks)


async def configuration_of(kubeconfig: Path) -> Configuration:
    """Where its API server is, and who its user."""
    configuration = Configuration()
    await config.load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)  # type: ignore[no-untyped-call]
    return configuration


@asynccontextmanager
async def passes(kubeconfig: Path, **options: Any) -> AsyncIterator[Passes]:
    """A namespace of its own, removed at the end."""
    written: list[str] = []
    asked: list[str] = []
    kill_after: list[int] = []

    def guard() -> None:
        if kill_after:
            if kill_after[0] == 0:
                raise KilledError
            kill_after[0] -= 1

    def observe(verb: str, path: str, status: int) -> None:
        asked.append(f"{verb} {path}")
        if verb in WRITES and not path.startswith("/api/v1/namespaces/own") and status < 400:
            written.append(f"{verb} {path}")

    api = await open_api(kubeconfig, guard, observe)
    namespace = f"t-{uuid.uuid4().hex[:8]}"
    await api.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    made = Passes(api, namespace, written, kill_after, asked, options=options)
    try:
        yield made
    finally:
        kill_after.clear()
        await api.delete(f"/api/v1/namespaces/{namespace}")
        await made.prober.close()
        await api.close()
