"""Leader election on a Lease: of several operators one writes. The decisions are in `leadership`; here is their I/O.

A process that was stopped and continued, or whose machine slept, may believe that it leads while another one does. So
every write asks `guard` right before it is sent, and the clock behind it counts while the process stands still.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

from sglang_operator.cluster.api import Api, ApiError, Object
from sglang_operator.cluster.leadership import Record, Timing, View
from sglang_operator.cluster.paths import LEASE

log: Final = logging.getLogger(__name__)

CLOCK: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # macOS' monotonic clock counts sleep already


class NotLeaderError(Exception):
    """A write was refused: the lease is not ours, or ends too soon."""


class LeaseLostError(Exception):
    """We led and must stop: the process ends, another one takes over."""


def seconds_with_suspend() -> float:
    """Monotonic seconds that go on while the machine sleeps."""
    return time.clock_gettime(CLOCK)


class Lease:
    """One process's part in the election. `api` must not be guarded by this very lease."""

    def __init__(
        self,
        api: Api,
        namespace: str,
        name: str,
        identity: str,
        *,
        timing: Timing | None = None,
        clock: Callable[[], float] = seconds_with_suspend,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._api, self._namespace, self._name = api, namespace, name
        self._timing = timing or Timing()
        self._view = View(identity, self._timing)
        self._clock, self._sleep = clock, sleep

    def may_write(self) -> bool:
        """Nobody else can hold the lease now, nor in the next seconds."""
        return self._view.may_write(self._clock())

    def guard(self) -> None:
        """Call it right before a write. Raises NotLeaderError."""
        if not self.may_write():
            raise NotLeaderError(f"nothing is written: {self} is not ours, or about to end")

    async def acquire(self) -> None:
        """Wait until this process leads."""
        while not await self._attempt():
            await self._sleep(self._view.waits(self._clock()))
        log.info("leading: %s is held by %s", self, self._view.identity)

    async def keep(self) -> None:
        """Renew for ever. Raises LeaseLostError."""
        while not self._view.is_lost(self._clock()):
            await self._sleep(min(self._timing.retry, max(0.0, self._view.gives_up_in(self._clock()))))
            await self._attempt()
        holder = self._view.record.holder if self._view.record else ""
        why = f"{holder} holds it" if self._view.is_deposed else f"not renewed for {self._timing.renew_deadline:g} s"
        raise LeaseLostError(f"{self} is lost: {why}")

    async def release(self) -> None:
        """Let another one take over at once. Nothing may be written any more; a failure costs only time."""
        self._view = self._view.resigned()
        try:
            async with asyncio.timeout(self._timing.retry):
                # Read anew: a renewal that was cancelled under way may have been accepted.
                lease = await self._read()
                record = self._view.released()
                if record:
                    await self._write(lease, record)
                    log.info("released %s", self)
        except (ApiError, TimeoutError) as error:
            log.warning("%s was not released, another operator waits until it ends: %s", self, error)

    async def _attempt(self) -> bool:
        """One read and, if it may be ours, one write."""
        seconds = min(self._timing.renew_deadline / 2, max(0.0, self._view.gives_up_in(self._clock())))
        try:
            async with asyncio.timeout(seconds):
                return await self._take_or_renew()
        except TimeoutError:
            log.warning("%s: no answer within %.1f s", self, seconds)
        except ApiError as error:
            # Lost races are part of the election.
            log.log(logging.DEBUG if error.is_conflict else logging.WARNING, "%s: %s", self, error)
        return False

    async def _take_or_renew(self) -> bool:
        lease = await self._read()
        sent_at = self._clock()
        record = self._view.next_record(sent_at, datetime.now(UTC))
        if record is None:
            return False
        await self._write(lease, record)
        self._view = self._view.won(record, sent_at)
        return True

    async def _read(self) -> Object | None:
        lease = await self._api.find(LEASE.of(self._namespace, self._name))
        before = self._view.record
        self._view = self._view.saw(Record.from_spec(lease.get("spec") or {}) if lease else None, self._clock())
        after = self._view.record
        if after and after.holder not in (before.holder if before else "", self._view.identity, ""):
            log.info("%s is held by %s", self, after.holder)
        return lease

    async def _write(self, lease: Object | None, record: Record) -> None:
        """Refused with 409 if anybody wrote since `lease` was read."""
        if lease is None:
            lease = {"metadata": {"name": self._name, "namespace": self._namespace}}
            body = {"apiVersion": LEASE.api_version, "kind": LEASE.name, **lease, "spec": record.to_spec()}
            await self._api.create(LEASE.of(self._namespace), body)
        else:
            await self._api.replace(LEASE.of(self._namespace, self._name), {**lease, "spec": record.to_spec()})

    def __str__(self) -> str:
        return f"lease {self._namespace}/{self._name}"
