"""Who may lead, decided from what was read and when: the pure half of the leader election (client-go's LeaderElector).

Nobody trusts another's clock: a lease has run out when the reader has seen it unchanged for its duration. The holder
counts from before it sent its renewal, a reader from after it saw it, so that the holder stops first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import inf
from typing import Any, Self

Spec = dict[str, Any]


@dataclass(frozen=True)
class Timing:
    """All in seconds; client-go's defaults. Raises ValueError if the order does not hold."""

    duration: float = 15
    """A lease that was not renewed for so long may be taken."""
    renew_deadline: float = 10
    """A leader that could not renew for so long gives up."""
    retry: float = 2
    """Between two tries, of leaders and of those who wait."""
    margin: float = 3
    """The leader writes nothing in the last seconds of its lease: a request under way must arrive before they end."""

    def __post_init__(self) -> None:
        if not 0 < self.retry < self.renew_deadline <= self.duration - self.margin < self.duration:
            raise ValueError(f"needs 0 < retry < renew_deadline <= duration - margin < duration: {self}")


@dataclass(frozen=True)
class Record:
    """What a Lease says. Two equal records mean that nothing was renewed in between."""

    holder: str = ""
    duration: float = 0.0
    acquired: str = ""
    renewed: str = ""
    transitions: int = 0

    @classmethod
    def from_spec(cls, spec: Spec) -> Self:
        """From `Lease.spec`, whose every field is optional."""
        return cls(
            holder=spec.get("holderIdentity") or "",
            duration=spec.get("leaseDurationSeconds") or 0,
            acquired=spec.get("acquireTime") or "",
            renewed=spec.get("renewTime") or "",
            transitions=spec.get("leaseTransitions") or 0,
        )

    def to_spec(self) -> Spec:
        """As `Lease.spec`."""
        return {
            "holderIdentity": self.holder,
            "leaseDurationSeconds": max(1, int(self.duration)),
            "acquireTime": self.acquired,
            "renewTime": self.renewed,
            "leaseTransitions": self.transitions,
        }


@dataclass(frozen=True)
class View:
    """What one process knows. All times are seconds of its own clock."""

    identity: str
    timing: Timing = Timing()
    record: Record | None = None
    """As last read; None before the first read, or if there is no Lease."""
    seen_at: float = 0.0
    """When the record was first read in this form."""
    renewed_at: float | None = None
    """When our last successful write was sent; None: we have never led."""
    is_deposed: bool = False
    """We led, and somebody else holds the lease now."""

    def saw(self, record: Record | None, now: float) -> View:
        """After a read that ended at `now`."""
        changed = record != self.record
        deposed = self.renewed_at is not None and record is not None and record.holder not in ("", self.identity)
        return replace(
            self, record=record, seen_at=now if changed else self.seen_at, is_deposed=self.is_deposed or deposed
        )

    def won(self, record: Record, sent_at: float) -> View:
        """After our write of `record`, sent at `sent_at`, was accepted."""
        return replace(self, record=record, seen_at=sent_at, renewed_at=sent_at)

    def next_record(self, now: float, wall: datetime) -> Record | None:
        """What to write now to take or keep the lease; None: it is somebody else's."""
        if self.is_lost(now) or not (self._is_ours or self.expires_in(now) <= 0):
            return None
        stamp = wall.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        old = self.record or Record()
        return Record(
            holder=self.identity,
            duration=self.timing.duration,
            acquired=(old.acquired or stamp) if self._is_ours else stamp,
            renewed=stamp,
            # As client-go counts: the first holder is no transition.
            transitions=old.transitions + (self.record is not None and not self._is_ours),
        )

    def resigned(self) -> View:
        """We write nothing from now on. Comes before the write of `released`."""
        return replace(self, is_deposed=True)

    def released(self) -> Record | None:
        """What to write to let the next one take over at once; None if the lease is not ours."""
        return replace(self.record, holder="", duration=1) if self.record and self._is_ours else None

    def expires_in(self, now: float) -> float:
        """Seconds until somebody else's lease may be taken; 0 or less: now."""
        if self.record is None or not self.record.holder:
            return 0.0
        return self.seen_at + (self.record.duration or self.timing.duration) - now

    def waits(self, now: float) -> float:
        """Seconds until the next try: sooner if the other's lease ends sooner."""
        left = self.expires_in(now)
        return min(self.timing.retry, left) if left > 0 and not self._is_ours else self.timing.retry

    def is_lost(self, now: float) -> bool:
        """We led and must stop for good: deposed, or not renewed within the deadline."""
        return self.is_deposed or self.gives_up_in(now) <= 0

    def gives_up_in(self, now: float) -> float:
        """Seconds that are left to renew; infinite for one who has never led."""
        return inf if self.renewed_at is None else self.renewed_at + self.timing.renew_deadline - now

    def may_write(self, now: float) -> bool:
        """Nobody else can hold the lease now, nor within the margin."""
        if self.renewed_at is None or self.is_deposed:
            return False
        return self.renewed_at <= now < self.renewed_at + self.timing.duration - self.timing.margin

    @property
    def _is_ours(self) -> bool:
        return self.record is not None and self.record.holder == self.identity
