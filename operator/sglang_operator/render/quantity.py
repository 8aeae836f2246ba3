"""Kubernetes quantities as numbers: `500m`, `1.5`, `64Gi`."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Final

_UNITS: Final = {
    "m": Decimal("0.001"),
    "k": Decimal(10) ** 3,
    **{unit: Decimal(10) ** (3 * power) for power, unit in enumerate("MGTPE", start=2)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", start=1)},
}


def number(quantity: str) -> Decimal:
    """The value of a quantity that the API accepted."""
    digits = quantity.rstrip("mkKMGTPEi")
    return Decimal(digits) * _UNITS.get(quantity[len(digits) :], Decimal(1))


def whole_cores(quantity: str) -> int:
    """Cores rounded up as KubeRay does, at least one: Ray schedules replicas by it."""
    return max(1, math.ceil(number(quantity)))


def object_store_bytes(shared_memory: str) -> int:
    """Size of Ray's object store in a /dev/shm of this size.

    By default Ray takes a third of the pod's memory, warns that /dev/shm is too small and moves to disk. Serve's HTTP
    path does not use the store, so half of /dev/shm, between Ray's minimum (75 MiB) and 512 MiB, is plenty; the rest
    is the engine's.
    """
    return max(75 * 2**20, min(512 * 2**20, int(number(shared_memory)) // 2))
