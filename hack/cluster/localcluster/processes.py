"""Processes that end with us, or that outlive us and are found again: never by name, always by pid and start time."""

from __future__ import annotations

import functools
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

STOP_SECONDS: Final = 10.0
GONE_SECONDS: Final = 30.0  # after SIGKILL; the kernel may still have memory to give back
STEP_SECONDS: Final = 0.05
LOG_LINES: Final = 30
# The process records itself before it becomes the program, so that no crash of ours leaves one that nobody knows.
RECORD: Final = 'echo $$ $(cut -d" " -f22 /proc/$$/stat) > "$0" && exec "$@"'


class Failed(AssertionError):  # noqa: N818 - what happened
    """A component did not start, or ended by itself; the text has the end of its log."""


@functools.cache
def _launcher() -> ThreadPoolExecutor:
    """The one thread that starts processes: the kernel ends them with the *thread* that started them."""
    return ThreadPoolExecutor(1, thread_name_prefix="localcluster-launcher")


@dataclass
class Process:
    """A program with a log file, which can be started again after it was stopped or killed."""

    name: str
    command: Sequence[str]
    directory: Path
    """For `<name>.log` and `<name>.pid`."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """On top of ours."""
    outlives: bool = False
    """Whether it goes on when we end. Otherwise it ends at once, even if we are killed."""
    _child: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """Its output, of all starts."""
        return self.directory / f"{self.name}.log"

    @property
    def pid(self) -> int | None:
        """Of the running process, whoever started it."""
        if self._child and self._child.poll() is None:
            return self._child.pid
        return _alive(self._record)

    def start(self) -> None:
        """Start it, unless it runs."""
        if self.pid is None:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._child = _launcher().submit(self._launch).result()
            while self._child.poll() is None and _alive(self._record) != self._child.pid:
                time.sleep(STEP_SECONDS / 10)  # from here on, others find it too

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Ask it to end, and kill it if it has not after `seconds`."""
        self.signal(signal.SIGTERM)
        if not self._gone(seconds):
            self.kill()

    def kill(self) -> None:
        """End it now, as a crash would."""
        self.signal(signal.SIGKILL)
        if not self._gone(GONE_SECONDS):
            raise Failed(f"{self.name} (pid {self.pid}) does not end, although it was killed")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it, if it runs: SIGSTOP makes it hang, SIGCONT goes on."""
        if (pid := self.pid) is not None:
            _send(pid, number)

    def wait_for(self, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until `ready()`. Raises Failed with the end of the log if it ends before, or takes longer."""
        limit = time.monotonic() + seconds
        while not ready():
            if self.pid is None:
                raise Failed(f"{self.name} has ended; the end of {self.log}:\n{self.last_lines()}")
            if time.monotonic() > limit:
                raise Failed(f"{self.name} is not ready after {seconds:.0f} s; {self.log}:\n{self.last_lines()}")
            time.sleep(STEP_SECONDS)

    def last_lines(self, lines: int = LOG_LINES) -> str:
        """The end of its log."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.is_file() else ""
        return "\n".join(text.splitlines()[-lines:])

    @property
    def _record(self) -> Path:
        return self.directory / f"{self.name}.pid"

    def _launch(self) -> subprocess.Popen[bytes]:
        tied = [] if self.outlives else ["setpriv", "--pdeathsig", "KILL", "--"]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*tied, "sh", "-c", RECORD, str(self._record), *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.environment},
                start_new_session=True,  # Ctrl-C on our terminal is for us, we end them in order
            )

    def _gone(self, seconds: float) -> bool:
        if self._child:
            try:
                self._child.wait(seconds)
            except subprocess.TimeoutExpired:
                return False
            self._child = None
        if (pid := _alive(self._record)) is None or (watched := pidfd_of(pid)) is None:
            return True
        return ended(watched, seconds) or _alive(self._record) is None


def _alive(record: Path) -> int | None:
    """The recorded pid, if that very process still runs: pids are used again, so its start time must be the same."""
    try:
        pid, _, started = record.read_text().strip().partition(" ")
        state, *_, found = _stat(int(pid))
    except (OSError, ValueError):
        return None
    return int(pid) if found == started and state != "Z" else None


def _stat(pid: int) -> tuple[str, ...]:
    """State to start time of /proc/<pid>/stat, fields 3 to 22; the name before them may hold anything."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    return tuple(after_name.split()[:20])


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # it has just ended


def pidfd_of(pid: int) -> int | None:
    """A descriptor by which the end of any process can be waited for; None if it has ended."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def ended(descriptor: int, seconds: float) -> bool:
    """Wait for the end of the process behind a descriptor, and close it."""
    try:
        return bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)
