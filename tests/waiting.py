"""How all tiers wait for what they do not command themselves.

Where the time is what a test claims, it calls `localcluster.kubectl.until`, which is no more patient in CI.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, TypeVar

from localcluster.kubectl import until

# A limit ends a hang; it measures nothing. CI's cores are shared, and at times they stand still for a minute.
PATIENCE: Final = 3 if os.environ.get("CI") else 1
STEP_SECONDS: Final = 0.05
T = TypeVar("T")


def wait_until(holds: Callable[[], T], seconds: float, what: str | Callable[[], str], step: float = STEP_SECONDS) -> T:
    """`until`, with PATIENCE."""
    return until(holds, seconds * PATIENCE, what, step)
