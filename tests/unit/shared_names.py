"""Names of shared memory as SGLang makes them (sglang.srt.utils.stale_shm_cleanup)."""

from __future__ import annotations

import os

PREFIX = "sgl_shm"


def make(kind: str) -> str:
    """Of a new file in /dev/shm."""
    return f"{PREFIX}_{kind}_{os.getpid()}_1a2b3c4d"
