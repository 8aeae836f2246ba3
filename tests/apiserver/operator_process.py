"""Operator processes, as tests start, signal and read them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from waiting import wait_until

TESTS = Path(__file__).parents[1]
SECONDS = 60.0
POLL = 0.05
COUNTS_PASSES = (sys.executable, "-m", "apiserver.counting_operator")
REAL = (str(Path(sys.executable).with_name("sglang-operator")), "run")
"""The command of the chart. Its options are SGLANG_OPERATOR_… in the environment."""


class OperatorProcess:
    """The process, as a test sees it."""

    def __init__(
        self, identity: str, kubeconfig: Path, log: Path, command: Sequence[str] = COUNTS_PASSES, **environment: str
    ) -> None:
        self.identity, self._log = identity, log
        known = {**os.environ, "KUBECONFIG": str(kubeconfig), "POD_NAME": identity, "PYTHONPATH": str(TESTS)}
        with log.open("w") as file:
            self._process = subprocess.Popen(command, env={**known, **environment}, stderr=file)

    @property
    def pid(self) -> int:
        return self._process.pid

    def lines(self) -> list[dict[str, Any]]:
        """What it has logged. AssertionError with all of it where Python said why it does not even start."""
        complete, _, _ = self._log.read_text().rpartition("\n")
        assert "Traceback (most recent call last)" not in complete.splitlines()[:1], complete
        return [json.loads(line) for line in complete.splitlines()]

    def says(self, text: str) -> bool:
        return any(text in line["message"] for line in self.lines())

    def wait_for(self, text: str, seconds: float = SECONDS) -> float:
        """Seconds that it took until a log line had `text`."""
        began = time.monotonic()
        until(lambda: self.says(text) or self._process.poll() is not None, seconds, self._log.read_text)
        assert self.says(text), f"ended with {self._process.returncode}: {self._log.read_text()}"
        return time.monotonic() - began

    def get(self, path: str) -> str:
        """From its HTTP server."""
        self.wait_for("health and metrics on port")
        port = next(line["message"] for line in self.lines() if "metrics on port" in line["message"]).split()[-1]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return str(answer.read().decode())

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, seconds: float = SECONDS) -> tuple[int, float]:
        """Exit status, and the seconds until then."""
        began = time.monotonic()
        return self._process.wait(seconds), time.monotonic() - began

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self.send(signal.SIGKILL)
        self._process.wait(SECONDS)


@contextmanager
def operators(kubeconfig: Path, directory: Path, namespace: str) -> Iterator[Callable[..., OperatorProcess]]:
    """Starts processes that serve `namespace` and compete for its Lease; they end with the block."""
    started: list[OperatorProcess] = []

    def start(identity: str, **environment: str) -> OperatorProcess:
        where = {"SERVES": namespace, "LEASE_IN": namespace, **environment}
        started.append(OperatorProcess(identity, kubeconfig, directory / f"{identity}.log", **where))
        return started[-1]

    try:
        yield start
    finally:
        for process in started:
            process.kill()


def until(condition: Callable[[], object], seconds: float = SECONDS, story: Callable[[], str] = lambda: "") -> None:
    """Wait until `condition` holds."""
    wait_until(condition, seconds, story, POLL)
