"""A simple operator process, for tests of what drives passes. It imports nothing of other tests' code.

A pass applies one ConfigMap, named after endpoint and process, which counts the passes: so the API server itself tells
who wrote, how often, and until when.
"""

from __future__ import annotations

import asyncio
import os
import sys

from sglang_operator.app import logs
from sglang_operator.app.options import Options, parse_namespaces
from sglang_operator.app.runtime import Surroundings, run
from sglang_operator.cluster.paths import ENDPOINT
from sglang_operator.cluster.types import Key, Result
from sglang_operator.cluster.workers import Reconcile


def make_reconcile(given: Surroundings) -> Reconcile:
    """Counts passes in a ConfigMap; `AGAIN` seconds later it wants to look again, `SLOW` seconds it takes."""
    passes: dict[Key, int] = {}
    writing: list[asyncio.Task[None]] = []
    again = float(os.environ["AGAIN"]) if os.environ.get("AGAIN") else None

    async def reconcile(key: Key) -> Result:
        if await given.api.find(ENDPOINT.of(*key)) is None:
            given.report(key, None)
            return Result()
        # It cannot be cancelled, and the process waits for it: when the lease is lost, only the guard is in its way.
        writing.append(asyncio.create_task(count(key)))
        await asyncio.shield(writing[-1])
        given.report(key, {"conditions": [{"type": "Ready", "status": "True"}]})
        return Result(again)

    async def end() -> None:
        await asyncio.gather(*writing, return_exceptions=True)

    given.stack.push_async_callback(end)

    async def count(key: Key) -> None:
        await asyncio.sleep(float(os.environ.get("SLOW", "0")))
        passes[key] = passes.get(key, 0) + 1
        name = counter_of(key.name, os.environ["POD_NAME"])
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": key.namespace}}
        path = f"/api/v1/namespaces/{key.namespace}/configmaps/{name}"
        await given.api.apply(path, {**body, "data": {"passes": str(passes[key])}})

    return reconcile


def counter_of(endpoint: str, identity: str) -> str:
    return f"{endpoint}-{identity}"


def _options() -> Options:
    return Options(
        namespaces=parse_namespaces(os.environ["SERVES"]),
        lease_namespace=os.environ["LEASE_IN"],
        leader_election=os.environ.get("ELECTION", "yes") == "yes",
        http_port=0,
        resync_seconds=float(os.environ.get("RESYNC", "3600")),
    )


if __name__ == "__main__":
    logs.configure("json", "info")
    sys.exit(asyncio.run(run(_options(), {}, make_reconcile)))
