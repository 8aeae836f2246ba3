"""Events for whoever started this process, and only events: everything else that prints goes to the log."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from typing import Any


class Events:
    """Writes one JSON object per line to the stdout this process was started with."""

    def __init__(self) -> None:
        # Ray prints its workers' output to stdout: from here on that is stderr, the log.
        self._out = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def progress(self, step: str, message: str, **fields: Any) -> None:
        """A step on the way: see the package's text for their names."""
        self.send("progress", step=step, message=message, **fields)

    def send(self, event: str, **fields: Any) -> None:
        """Write one event. A reader that died is no error: closed stdin ends the run."""
        with suppress(BrokenPipeError):
            self._out.write(json.dumps({"event": event, **fields}) + "\n")
