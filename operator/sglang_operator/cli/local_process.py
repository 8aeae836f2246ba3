"""The runner (`sglang_serve.local`) as a child of this process, in the engine environment's Python."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import sglang_serve

STOP_SECONDS = 60  # above what the runner gives to streams, plus the end of Ray
FORCE_SECONDS = 20  # the runner kills and removes all it has
Event = Mapping[str, Any]


class LocalProcess:
    """Starts the runner; `next_event` reads what it says; leaving the `with` block ends it and all it started."""

    def __init__(self, python: Path, spec: Mapping[str, Any], log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as sink:
            self._child = subprocess.Popen(
                [python, "-m", "sglang_serve.local"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sink,
                text=True,
                env={**os.environ, **import_path()},
                start_new_session=True,  # Ctrl-C reaches this process alone, which then stops the child in order
            )
        self._events: queue.Queue[Event] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._tell(spec)

    @property
    def pid(self) -> int:
        """Of the runner; everything it starts is in its session, or a descendant."""
        return self._child.pid

    def next_event(self, timeout: float) -> Event | None:
        """The next event, None if there was none for `timeout` seconds; the last is {"event": "ended", "code": …}."""
        with suppress(queue.Empty):
            return self._events.get(timeout=timeout)
        return None

    def interrupt(self) -> None:
        """Ask it to stop; asked twice, it stops at once."""
        self._child.send_signal(signal.SIGINT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self, seconds: float = STOP_SECONDS) -> int:
        """Let it end in order, for at most `seconds`, then by force; returns its exit code."""
        stdin = self._child.stdin
        if stdin and not stdin.closed:
            with suppress(BrokenPipeError):
                stdin.close()  # what the runner takes for our end
        for signal_ in (signal.SIGTERM, signal.SIGKILL):  # at once; by force
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(seconds)
                break
            self._child.send_signal(signal_)
            seconds = FORCE_SECONDS
        code = self._child.wait()
        end_session(self.pid)
        self._reader.join()
        if self._child.stdout:
            self._child.stdout.close()
        return code

    def _tell(self, spec: Mapping[str, Any]) -> None:
        stdin = self._child.stdin
        if stdin:
            with suppress(BrokenPipeError):  # it died at once: the event "ended" says so
                stdin.write(json.dumps(spec) + "\n")
                stdin.flush()

    def _read(self) -> None:
        for line in self._child.stdout or ():
            with suppress(ValueError):  # a line of something else: a warning of the interpreter's, say
                self._events.put(json.loads(line))
        self._events.put({"event": "ended", "code": self._child.wait()})


def import_path() -> dict[str, str]:
    """Environment that lets the engine environment import this very `sglang_serve` from a checkout.

    Where both packages are installed into one site-packages, that directory must not come first for another Python:
    then the engine environment has to have its own `sglang_serve`.
    """
    root = Path(sglang_serve.__file__).parent.parent
    return {} if root.name == "site-packages" else {"PYTHONPATH": str(root)}


def end_session(session: int) -> None:
    """Kill what is left of a session: nothing, unless the runner itself was killed."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()  # the name before it may hold anything
            if int(fields[3]) == session:
                os.kill(int(stat.parent.name), signal.SIGKILL)
