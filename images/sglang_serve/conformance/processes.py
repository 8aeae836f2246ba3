"""The servers under test as children of this process: started, waited for, and ended with all that they started."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from sglang_serve.conformance.outcome import Failed
from sglang_serve.leftovers import shared_memory_removed

MARK = "SGLANG_CONFORMANCE_MARK"  # every process below inherits it, also one that leaves session and parent
TAIL_LINES = 40
POLL_SECONDS = 0.2
STOP_SECONDS = 120


class Child:
    """A process with its log, and every process that descends from it."""

    def __init__(self, command: Sequence[str], log: Path, env: Mapping[str, str], *, talks: bool = False) -> None:
        self._mark = uuid.uuid4().hex
        self.log = log
        pipe = subprocess.PIPE if talks else subprocess.DEVNULL
        with log.open("wb") as sink:
            self.process = subprocess.Popen(
                command,
                stdin=pipe,
                stdout=pipe if talks else sink,
                stderr=sink,
                text=True,
                env={**os.environ, **env, MARK: self._mark},
                start_new_session=True,  # Ctrl-C reaches this program alone, which then ends its children in order
            )

    def descendants(self) -> list[int]:
        """Pids of the living processes that carry our mark."""
        return [pid for pid in _pids() if pid != os.getpid() and self._is_ours(pid)]

    def _is_ours(self, pid: int) -> bool:
        with suppress(OSError):  # ended meanwhile, or another user's
            return f"{MARK}={self._mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
        return False

    def processes(self, title: str = "") -> list[psutil.Process]:
        """This one and those below it, of those that call themselves so."""
        try:
            own = psutil.Process(self.process.pid)
            return [one for one in (own, *own.children(recursive=True)) if _title(one).startswith(title)]
        except psutil.NoSuchProcess:
            return []

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def end(self, seconds: float) -> None:
        """SIGINT, then SIGKILL for whatever is left after `seconds`."""
        if self.is_running:
            self.process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
        for pid in self.descendants():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def tail(self) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:])


class Endpoint(Child):
    """Our endpoint: `sglang_serve.local`, which says on stdout how far it is."""

    def __init__(self, spec: Mapping[str, Any], log: Path) -> None:
        super().__init__([sys.executable, "-m", "sglang_serve.local"], log, {}, talks=True)
        self.url = f"http://127.0.0.1:{spec['http_port']}"
        self._events: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self._tell(spec)

    def _tell(self, spec: Mapping[str, Any]) -> None:
        if self.process.stdin:
            self.process.stdin.write(json.dumps(spec) + "\n")
            self.process.stdin.flush()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            with suppress(ValueError):  # a line of something else
                self._events.put(json.loads(line))
        self._events.put({"event": "ended"})

    def wait_ready(self, seconds: float, say: Callable[[str], None]) -> None:
        """Wait until it answers. Raises Failed with its own reason, or when `seconds` are over."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            with suppress(queue.Empty):
                event = self._events.get(timeout=left)
                if event["event"] == "ready":
                    return
                if event["event"] in {"failed", "ended"}:
                    raise Failed(_reason(event), self.tail())
                say(f"{event.get('step', '')}: {event.get('message', '')}")
        raise Failed(f"not ready after {seconds:.0f} s", self.tail())

    def interrupt(self) -> None:
        """Ask it to end; running streams may finish."""
        self.process.send_signal(signal.SIGINT)

    def wait_ended(self) -> int:
        """Its exit code; raises Failed if it does not end."""
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise Failed(f"not stopped after {STOP_SECONDS} s", self.tail()) from None


class Native(Child):
    """`sglang.launch_server`."""

    def __init__(self, command: Sequence[str], port: int, env: Mapping[str, str], log: Path) -> None:
        super().__init__(command, log, env)
        self.url = f"http://127.0.0.1:{port}"

    def end(self, seconds: float) -> None:
        """As its base; SGLang ends by SIGKILL and leaves its shared memory."""
        with shared_memory_removed([one.pid for one in self.processes()]):
            super().end(seconds)

    def wait_ready(self, seconds: float) -> None:
        """Wait until /health answers 200, which it does after the server's own warm-up."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not self.is_running:
                raise Failed(f"the native server ended with code {self.process.returncode}", self.tail())
            with suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/health", timeout=30, trust_env=False).is_success:
                    return
            time.sleep(POLL_SECONDS)
        raise Failed(f"the native server is not ready after {seconds:.0f} s", self.tail())


@contextmanager
def ended(child: Child, seconds: float = 30) -> Iterator[None]:
    """End the child at the end of the block, however that comes."""
    try:
        yield
    finally:
        child.end(seconds)


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it has just ended
        return ""


def _reason(event: Mapping[str, Any]) -> str:
    if event["event"] == "ended":
        return "the runner ended without a word"
    return " ".join(str(event[name]) for name in ("reason", "message", "remedy") if event.get(name))
