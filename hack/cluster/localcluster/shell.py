"""Programs of the system, called with arguments, never through a shell."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from typing import IO, Final

SECONDS: Final = 60.0
LINES: Final = 40


class Broken(RuntimeError):  # noqa: N818 - what happened
    """A program ended with an error; the text has the end of what it said."""


def run(
    *command: str,
    seconds: float = SECONDS,
    environment: Mapping[str, str] | None = None,
    source: IO[bytes] | None = None,
) -> str:
    """What `command` prints when it reads `source`. Raises Broken with its complaints."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        stdin=source or subprocess.DEVNULL,
        env={**os.environ, **(environment or {})},
    )
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-LINES:])
        raise Broken(f"{' '.join(command)}: exit code {done.returncode}\n{said}")
    return done.stdout
