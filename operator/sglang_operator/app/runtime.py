"""The life of the process: credentials, health and metrics, lease, watches and workers, and the way back.

Nothing is watched before the process leads. It ends in the order that lets the next one take over at once: no new keys,
running passes end, the lease is released. How the watches end is of no matter then.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

from kubernetes.aio.client import Configuration

from sglang_operator.app import health
from sglang_operator.app.credentials import load_configuration, own_namespace, pod_namespace
from sglang_operator.app.metrics import Metrics
from sglang_operator.app.options import Options, identity
from sglang_operator.app.server import HttpServer
from sglang_operator.app.watches import Watches
from sglang_operator.cluster.api import Api, ApiError, no_guard
from sglang_operator.cluster.discovery import wait_for_endpoints, wait_for_late_kinds
from sglang_operator.cluster.lease import Lease, LeaseLostError
from sglang_operator.cluster.paths import ENDPOINT
from sglang_operator.cluster.queue import WorkQueue
from sglang_operator.cluster.types import Key, Report
from sglang_operator.cluster.workers import Reconcile, Workers, resync
from sglang_operator.render import Platform
from sglang_operator.render.platform import images_with

log: Final = logging.getLogger(__name__)

PASS_GRACE_SECONDS: Final = 3.0  # for the passes that run when the process is told to stop
WATCH_GRACE_SECONDS: Final = 1.0
EXIT_SECONDS: Final = 8.0  # after that the process ends whatever hangs, a name look-up for example


@dataclass(frozen=True)
class Surroundings:
    """What a reconciler is made with."""

    api: Api
    """Refuses writes near the end of the lease."""
    defaults: Mapping[str, Any]
    platform: Platform
    report: Report
    stack: AsyncExitStack
    """Ends with the process: what must be closed goes there."""
    reads_nodes: bool = False


MakeReconcile = Callable[[Surroundings], Reconcile]


async def run(options: Options, defaults: Mapping[str, Any], make_reconcile: MakeReconcile) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit status: 0 when told to stop, 1 when it must be started anew."""
    stop = _stop_signals()
    try:
        async with AsyncExitStack() as stack:
            operator = Operator(options, defaults, await load_configuration(), make_reconcile, stack)
            await operator.listen()
            await first_of(stop.wait(), operator.serve())
    except LeaseLostError as error:
        log.critical("%s: this process ends, so that two never write", error)
    except Exception:  # its last word; the pod restarts
        log.critical("the operator cannot go on", exc_info=True)
    else:
        log.info("stopped")
        return 0
    return 1


class Operator:
    """The parts of one process, and their order."""

    def __init__(
        self,
        options: Options,
        defaults: Mapping[str, Any],
        configuration: Configuration,
        make_reconcile: MakeReconcile,
        stack: AsyncExitStack,
    ) -> None:
        self._options, self._stack = options, stack
        self._metrics = Metrics()
        self._lag = health.LoopLag()
        self._queue: WorkQueue[Key] = WorkQueue()
        self._open_api = self._api(configuration)
        self._lease = self._own_lease() if options.leader_election else None
        self._guarded_api = self._api(configuration, self._lease.guard if self._lease else no_guard)
        platform = Platform(
            images=images_with(options.images),
            kuberay_namespace=options.kuberay_namespace,
            operator_namespace=pod_namespace(),
        )
        given = Surroundings(self._guarded_api, defaults, platform, self._metrics.report, stack, options.read_nodes)
        reconcile = make_reconcile(given)
        self._workers = Workers(self._queue, reconcile, count=options.workers, observe=self._metrics.passed)

    async def listen(self) -> None:
        """Answer probes and scrapes, before anything can take long. Raises OSError if the port is taken."""
        self._metrics.watch(lambda: self._queue.depth, lambda: self._queue.longest_running, lambda: self._lag.seconds)
        server = HttpServer(self._options.http_port, trouble=self._trouble, metrics=self._metrics.text)
        self._stack.push_async_callback(server.stop)
        await server.start()

    async def serve(self) -> None:
        """Wait for the lease, then work until cancelled. Raises LeaseLostError, or what else has ended it."""
        await first_of(self._lag.measure(), self._serve())

    async def _serve(self) -> None:
        await wait_for_endpoints(self._open_api)
        if self._lease:
            await self._lease.acquire()
        self._metrics.leads(True)
        try:
            self._workers.start()
            await first_of(self._keep_lease(), self._workers.join(), self._watch(), self._resync())
        except LeaseLostError:
            _exit_at_last()
            await self._workers.stop(grace_seconds=0)
            raise
        except BaseException:
            await self._end()
            raise

    async def _end(self) -> None:
        _exit_at_last()
        await self._workers.stop(PASS_GRACE_SECONDS)
        if self._lease:
            await self._lease.release()
        self._metrics.leads(False)

    async def _keep_lease(self) -> None:
        await (self._lease.keep() if self._lease else asyncio.Event().wait())

    async def _resync(self) -> None:
        await resync(self._queue, self._list_keys, self._options.resync_seconds)

    async def _list_keys(self) -> list[Key]:
        namespaces = self._options.namespaces or ("",)
        found = [await keys_in(self._open_api, name) for name in namespaces]
        keys = [key for some in found for key in some or ()]
        if None not in found:
            self._metrics.keep_only(keys)
        return keys

    async def _watch(self) -> None:
        """Keep the watches open, anew when a kind has come that they cannot see come."""
        while True:
            watches = Watches(self._queue.note, self._options.namespaces)
            watches.start()
            self._stack.push_async_callback(watches.wait, WATCH_GRACE_SECONDS)
            try:
                await first_of(watches.join(), self._late_kinds())
            finally:
                watches.stop()

    async def _late_kinds(self) -> None:
        # In the whole cluster kopf watches CRDs; the rights of namespaces do not include that.
        await (wait_for_late_kinds(self._open_api) if self._options.namespaces else asyncio.Event().wait())

    def _own_lease(self) -> Lease:
        namespace = self._options.lease_namespace or own_namespace()
        return Lease(self._open_api, namespace, self._options.lease_name, identity())

    def _api(self, configuration: Configuration, guard: Callable[[], None] = no_guard) -> Api:
        api = Api(configuration, guard=guard, observe=self._metrics.asked)
        self._stack.push_async_callback(api.close)
        return api

    def _trouble(self) -> str:
        return health.trouble(self._queue.longest_running, self._lag.seconds)


async def keys_in(api: Api, namespace: str) -> list[Key] | None:
    """The endpoints of a namespace, of all with "". None where the right to list them is missing: one namespace may be
    gone, and its Role with it, and the others go on. Raises ApiError."""
    try:
        found = await api.list(ENDPOINT.of(namespace))
    except ApiError as error:
        if not (error.is_forbidden and namespace):
            raise
        log.warning("endpoints of namespace %s cannot be listed: %s", namespace, error)
        return None
    return [Key(item["metadata"]["namespace"], item["metadata"]["name"]) for item in found]


async def first_of(*parts: Coroutine[Any, Any, object]) -> None:
    """Run all until the first one ends, then cancel the others and wait for them. Raises what the first one raised."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


def _stop_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _exit_at_last() -> None:
    timer = threading.Timer(EXIT_SECONDS, os._exit, [1])
    timer.daemon = True
    timer.start()
