"""Rollouts of one endpoint over real KubeRay, with the kubelet of kubelet.py: pass after pass until something holds."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from apiserver.kubelet import Clock, Engines, Kubelet
from apiserver.passes import Passes, open_api, passes
from waiting import PATIENCE

from sglang_operator.cluster.api import Api, ApiError
from sglang_operator.cluster.children import APPLIED
from sglang_operator.cluster.metadata import labels_of, name_of, notes_of
from sglang_operator.cluster.paths import ENDPOINT, POD, RAY_CLUSTER, RAY_SERVICE, RECORD, SERVICE
from sglang_operator.cluster.pods import is_ready, is_worker
from sglang_operator.cluster.reconcile import Reconciler
from sglang_operator.cluster.records import DRAINING_SINCE
from sglang_operator.cluster.selection import SWITCHED_AT
from sglang_operator.cluster.types import Key
from sglang_operator.lifecycle.retire import SETTLE_SECONDS
from sglang_operator.render import names

Object = dict[str, Any]
Check = Callable[[], Awaitable[bool]]
SECONDS: Final = 180.0  # for a rollout on a machine that others use too; it takes a few
POLL: Final = 0.05  # while KubeRay and the garbage collector work


@dataclass
class Stage:
    """One namespace with its operator, its kubelet and somebody who looks on."""

    on: Passes
    api: Api
    """Of the one who looks on: never spoilt, never counted."""
    clock: Clock
    engines: Engines
    kubelet: Kubelet
    failed: int = 0
    """Passes that ended with a request that the API server refused."""
    outages: bool = False
    """What has served may stop: the test asks for that, or is about it."""
    served: bool = False
    """Some revision has."""

    async def turn(self, key: Key, operator: Reconciler) -> bool:
        """A pass, and what kubelet and clock make of it; whether anything was written. Traffic is where it may be."""
        before = len(self.on.written)
        await self._check_traffic(key)  # after what ended the process before, too
        try:
            await operator.reconcile(key)
        except ApiError:
            self.failed += 1
        await self._check_traffic(key)
        started = await self.kubelet.play()
        if len(self.on.written) > before or started:
            return True
        await self._let_drains_settle()
        return False

    async def _check_traffic(self, key: Key) -> None:
        """It goes to what has answered; and once anything has served, to a worker that is there to answer."""
        selected = await self.selected(key)
        assert selected in {"", *self.engines.proven}, f"{selected} serves and has never answered"
        self.served = self.served or bool(selected)
        if self.served and not self.outages:
            workers = [pod for pod in await self.api.list(POD.of(key.namespace)) if is_worker(pod) and is_ready(pod)]
            able = {labels_of(pod)[names.REVISION] for pod in workers}
            assert selected in able, f"{selected or 'no revision'} serves, and there are workers of {able or 'none'}"

    async def until(self, check: Check, key: Key, operator: Reconciler | None = None) -> None:
        """Turn after turn until `check` holds."""
        operator, limit = operator or self.on.operator(), time.monotonic() + SECONDS * PATIENCE
        while not await check():
            assert time.monotonic() < limit, await self._story(key)
            if not await self.turn(key, operator):
                await asyncio.sleep(POLL)

    async def serve(self, key: Key, operator: Reconciler | None = None) -> str:
        """Until what the spec asks for serves alone and all is said; returns its name."""
        await self.until(lambda: self.is_done(key), key, operator)
        return await self.selected(key)

    async def is_done(self, key: Key) -> bool:
        """The newest record serves, and nothing of any other revision is left."""
        records = await self.api.list(RECORD.of(self.on.namespace))
        if not records or await self.names(RAY_SERVICE.plural) != [await self.selected(key)]:
            return False
        newest = max(records, key=lambda one: one["revision"])
        left = [*await self.api.list(RAY_CLUSTER.of(key.namespace)), *await self.api.list(POD.of(key.namespace))]
        revisions = {one["metadata"]["labels"][names.REVISION] for one in left}
        if revisions != {name_of(newest)} or revisions != {await self.selected(key)}:
            return False
        live = await self.api.get(ENDPOINT.of(*key))
        found = {one["type"]: one for one in live["status"]["conditions"]}
        is_current = found["Progressing"]["observedGeneration"] == live["metadata"]["generation"]
        return bool(is_current) and found["Progressing"]["reason"] == "RolloutComplete"

    async def names(self, plural: str) -> list[str]:
        """Of the objects of a kind of KubeRay's."""
        return sorted(map(name_of, await self.api.list(f"/apis/ray.io/v1/namespaces/{self.on.namespace}/{plural}")))

    async def selected(self, key: Key) -> str:
        """The revision whose pods the endpoint's Service selects."""
        service = await self.api.find(SERVICE.of(*key))
        return str(service["spec"]["selector"].get(names.REVISION, "")) if service else ""

    async def revision(self, key: Key, name: str) -> Object:
        """What status says of a revision."""
        status = (await self.api.get(ENDPOINT.of(*key)))["status"]
        return next(dict(one) for one in status["revisions"] if one["name"] == name)

    async def objects(self) -> Object:
        """All that the operator has made, without times and without what one endpoint of many has of its own."""
        found = {kind: [_timeless(item) for item in items] for kind, items in (await self.on.everything()).items()}
        made: Object = json.loads(json.dumps(found).replace(self.on.namespace, "namespace"))
        return made

    async def _story(self, key: Key) -> str:
        """How things stand."""
        status = (await self.api.get(ENDPOINT.of(*key))).get("status")
        pods = [f"{name_of(pod)} {pod['status'].get('phase')}" for pod in await self.api.list(POD.of(key.namespace))]
        return json.dumps({"status": status, "pods": pods, "written": self.on.written[-10:]}, indent=1)

    async def _let_drains_settle(self) -> None:
        living = await self.names(RAY_SERVICE.plural)
        for record in await self.api.list(RECORD.of(self.on.namespace)):
            since = notes_of(record).get(DRAINING_SINCE)
            if since and name_of(record) in living:
                self.clock.reach(float(since) + SETTLE_SECONDS + 0.1)


def _timeless(item: Object) -> Object:
    own = (SWITCHED_AT, DRAINING_SINCE, APPLIED)  # the last is a digest of its namespace, too
    notes = {key: value for key, value in notes_of(item).items() if key not in own}
    return {**item, "metadata": {**item["metadata"], "annotations": notes}}


@asynccontextmanager
async def stage(kubeconfig: Path, **options: Any) -> AsyncIterator[Stage]:
    """A namespace of its own, removed at the end."""
    clock, engines = Clock(), Engines()
    async with passes(kubeconfig, **options) as on:
        on.clock, on.prober = clock, engines
        api = await open_api(kubeconfig)
        try:
            yield Stage(on, api, clock, engines, Kubelet(api, on.namespace, engines))
        finally:
            await api.close()
