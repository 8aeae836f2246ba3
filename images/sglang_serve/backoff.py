"""How long a replica waits before its next try to start: longer after each failure, as the kubelet does.

Serve starts another replica at once, and gives up after three (ADR 0012); told to go on, it would load what cannot be
loaded again and again, and ask a hub that is away many times a second. The count lies beside the directories of the
replicas, so it is that of one pod, and ends with the container.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

FILE = "failed-starts"
FIRST_SECONDS = 5.0
LONGEST_SECONDS = 300.0  # the kubelet's limit for CrashLoopBackOff


def seconds_before_start(state: Path, draw: Callable[[], float] = random.random) -> float:
    """0 for a first try; then 5, 10, 20 … 300 s, less up to a fifth: replicas of one fate do not come at once."""
    failures = failed_starts(state)
    if not failures:
        return 0.0
    seconds = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(failures - 1, 16))
    return float(seconds * (1 - draw() / 5))


def failed_starts(state: Path) -> int:
    """How many have failed here since the last that did not."""
    try:
        return int((state / FILE).read_text())
    except (OSError, ValueError):
        return 0


def note_failure(state: Path, sleep: Callable[[float], None] = time.sleep) -> None:
    """One more. On a full disk it cannot be noted, and the next start would not wait: so the shortest pause is now."""
    fresh = state / f"{FILE}.new"
    try:
        fresh.write_text(str(failed_starts(state) + 1))
        fresh.replace(state / FILE)
    except OSError:
        sleep(FIRST_SECONDS)


def note_success(state: Path) -> None:
    """The next failure is the first again."""
    (state / FILE).unlink(missing_ok=True)
