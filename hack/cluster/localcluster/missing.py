"""What a machine lacks for a local cluster, and the command that mends it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable


class Missing(Exception):  # noqa: N818 - what is the matter
    """This machine cannot run the cluster as it is; the text says what it lacks and what to do."""


def require_linux() -> None:
    """Components end with their parent, and nodes are made, with means that only Linux has."""
    if sys.platform != "linux":
        raise Missing(f"the local cluster runs on Linux, and this is {sys.platform}: use a Linux machine or container")


def require(programs: Iterable[str], remedy: str) -> None:
    """Raise unless all `programs` are on the PATH."""
    lacking = [program for program in programs if shutil.which(program) is None]
    if lacking:
        raise Missing(f"the local cluster needs {', '.join(lacking)}: {remedy}")
