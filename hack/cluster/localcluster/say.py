"""Progress on the terminal."""

from __future__ import annotations

import sys


def say(line: str) -> None:
    """One line on stderr, at once: stdout is for what a caller reads."""
    print(f"local cluster: {line}", file=sys.stderr, flush=True)
