"""What Ray is told of Kubernetes quantities."""

from __future__ import annotations

import math

from sglang_operator.api.quantity import number


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
