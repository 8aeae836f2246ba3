"""Kopf, and only here: it finds the kinds, keeps watches open and logs in again. Each event becomes a key in the queue.

`on.event` handlers alone leave no trace in the cluster: no finalizer, no annotation, no state.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, Final, cast

import kopf

from sglang_operator.cluster.paths import ENDPOINT, KINDS
from sglang_operator.cluster.types import Key
from sglang_operator.render import names

REQUEST_SECONDS: Final = 60.0
CONNECT_SECONDS: Final = 10.0
RETRY_SECONDS: Final = 20.0


def key_of(event: Any) -> Key | None:
    """The endpoint that an event of a watch is about; None if the object names none."""
    metadata = event["object"]["metadata"]
    if event["object"].get("kind") == ENDPOINT.name:
        return Key(metadata["namespace"], metadata["name"])
    endpoint = (metadata.get("labels") or {}).get(names.ENDPOINT)
    return Key(metadata["namespace"], endpoint) if endpoint else None


def build_registry(add: Callable[[Key], None]) -> kopf.OperatorRegistry:
    """Kopf's handlers: every event calls `add`, from kopf's thread."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    def login(settings: kopf.OperatorSettings, **_: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(settings=settings) or kopf.login_with_kubeconfig(settings=settings)

    async def enqueue(event: kopf.RawEvent, **_: Any) -> None:
        if key := key_of(event):
            add(key)

    for kind in KINDS.values():
        kopf.on.event(kind.group, kind.version, kind.plural, id=kind.plural, registry=registry)(enqueue)
    return registry


class Backoffs:
    """Seconds between two tries of a request of kopf's, without an end. After a last one kopf would end, and with it
    this process, because of a right to list or watch one kind that somebody may grant."""

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((1.0, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0), itertools.repeat(RETRY_SECONDS))


class NoMemory(kopf.DiffBaseStorage):
    """Kopf copies each object of each event to compare it with what it handled last. Nothing here asks for that."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        """All that matters of an object: nothing."""
        return cast("kopf.BodyEssence", {})

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        """What was handled last: unknown."""
        return None

    def store(self, **_: Any) -> None:
        """Never called: there are no handlers of changes."""


def build_settings(namespaces: tuple[str, ...]) -> kopf.OperatorSettings:
    """Kopf without its own state: nothing is posted, paused or stored."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.persistence.diffbase_storage = NoMemory()
    settings.peering.standalone = True  # else a foreign peering object named "default" would pause us
    settings.process.ultimate_exiting_timeout = None
    settings.networking.request_timeout = REQUEST_SECONDS
    settings.networking.connect_timeout = CONNECT_SECONDS
    settings.networking.error_backoffs = Backoffs()
    settings.watching.connect_timeout = CONNECT_SECONDS
    # Kinds that come later are found by watching CRDs, which takes rights on the whole cluster.
    settings.scanning.disabled = bool(namespaces)
    for kind in KINDS.values():
        if kind is not ENDPOINT:
            settings.watching.label_selectors[kind.group, kind.version, kind.plural] = names.ENDPOINT
    return settings


class EndedError(Exception):
    """The watches have ended by themselves."""


class Watches:
    """Kopf in a thread with a loop of its own: it takes over the signals of the main thread, and at its end it cancels
    every task of its loop. `add` is called in the loop that calls `start`."""

    def __init__(self, add: Callable[[Key], None], namespaces: tuple[str, ...]) -> None:
        self._add, self._namespaces = add, namespaces
        self._stop = threading.Event()
        self._ended: Future[None] = Future()

    def start(self) -> None:
        """Begin."""
        loop = asyncio.get_running_loop()
        registry = build_registry(lambda key: _call_in(loop, self._add, key))
        threading.Thread(target=self._run, args=(registry,), name="watches", daemon=True).start()

    async def join(self) -> None:
        """Wait for their end, which nobody asked for. Raises what ended them."""
        await asyncio.shield(asyncio.wrap_future(self._ended))
        raise EndedError("the watches have ended")

    def stop(self) -> None:
        """Let them end. Nothing depends on how they do."""
        self._stop.set()

    async def wait(self, seconds: float) -> None:
        """Wait until they have ended, so long at most."""
        await asyncio.wait([asyncio.wrap_future(self._ended)], timeout=seconds)

    def _run(self, registry: kopf.OperatorRegistry) -> None:
        try:
            asyncio.run(self._watch(registry))
        except BaseException as error:  # handed to the main thread, whose business it is  # noqa: BLE001
            self._ended.set_exception(error)
        else:
            self._ended.set_result(None)

    async def _watch(self, registry: kopf.OperatorRegistry) -> None:
        try:
            await kopf.operator(
                registry=registry,
                settings=build_settings(self._namespaces),
                clusterwide=not self._namespaces,
                namespaces=self._namespaces,
                stop_flag=self._stop,
                # Else kopf names itself after the user, and fails where the image's user id has no name.
                identity=cast("Any", "sglang-operator"),
            )
        finally:
            self._stop.set()  # a thread of the loop's executor waits for it, and the loop for that thread


def _call_in(loop: asyncio.AbstractEventLoop, add: Callable[[Key], None], key: Key) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(add, key)
