"""How all tiers wait for what they do not command themselves."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final, TypeVar

# A limit ends a hang; it measures nothing. CI's cores are shared, and at times they stand still for a minute.
PATIENCE: Final = 3 if os.environ.get("CI") else 1
POLL_SECONDS: Final = 0.05
T = TypeVar("T")


def wait_until(holds: Callable[[], T], seconds: float, what: str | Callable[[], str], poll: float = POLL_SECONDS) -> T:
    """Wait until `holds()` is true, and return it.

    After `seconds` (times PATIENCE) it fails with `what` was waited for; a callable says it at that time.
    """
    limit = time.monotonic() + seconds * PATIENCE
    while not (found := holds()):
        if time.monotonic() > limit:
            raise AssertionError(f"not within {seconds * PATIENCE:.0f} s: {what if isinstance(what, str) else what()}")
        time.sleep(poll)
    return found
