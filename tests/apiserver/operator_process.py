"""An operator process with a simple reconciler, for tests of what drives passes. Run as a script, it is that process.

A pass applies one ConfigMap, named after endpoint and process, which counts the passes: so the API server itself tells
who wrote, how often, and until when.
"""

from __future__ import annotations

import asyncio
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

from sglang_operator.app import logs
from sglang_operator.app.options import Options, parse_namespaces
from sglang_operator.app.runtime import Surroundings, run
from sglang_operator.cluster.paths import ENDPOINT
from sglang_operator.cluster.types import Key, Result
from sglang_operator.cluster.workers import Reconcile

TESTS = Path(__file__).parents[1]
SECONDS = 60.0
POLL = 0.05
COUNTS_PASSES = (sys.executable, "-m", "apiserver.operator_process")
REAL = (str(Path(sys.executable).with_name("sglang-operator")), "run")
"""The command of the chart. Its options are SGLANG_OPERATOR_… in the environment."""


def make_reconcile(given: Surroundings) -> Reconcile:
    """Counts passes in a ConfigMap; `AGAIN` seconds later it wants to look again, `SLOW` seconds it takes."""
    passes: dict[Key, int] = {}
    writing: list[asyncio.Task[None]] = []
    again = float(os.environ["AGAIN"]) if os.environ.get("AGAIN") else None

    async def reconcile(key: Key) -> Result:
        if await given.api.find(ENDPOINT.of(*key)) is None:
            given.report(key, None)
            return Result()
        # It cannot be cancelled, and the process waits for it: when the lease is lost, only the guard is in its way.
        writing.append(asyncio.create_task(count(key)))
        await asyncio.shield(writing[-1])
        given.report(key, {"conditions": [{"type": "Ready", "status": "True"}]})
        return Result(again)

    async def end() -> None:
        await asyncio.gather(*writing, return_exceptions=True)

    given.stack.push_async_callback(end)

    async def count(key: Key) -> None:
        await asyncio.sleep(float(os.environ.get("SLOW", "0")))
        passes[key] = passes.get(key, 0) + 1
        name = counter_of(key.name, os.environ["POD_NAME"])
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": key.namespace}}
        path = f"/api/v1/namespaces/{key.namespace}/configmaps/{name}"
        await given.api.apply(path, {**body, "data": {"passes": str(passes[key])}})

    return reconcile


def counter_of(endpoint: str, identity: str) -> str:
    return f"{endpoint}-{identity}"


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
        """What it has logged."""
        complete, _, _ = self._log.read_text().rpartition("\n")
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


def _options() -> Options:
    return Options(
        namespaces=parse_namespaces(os.environ["SERVES"]),
        lease_namespace=os.environ["LEASE_IN"],
        leader_election=os.environ.get("ELECTION", "yes") == "yes",
        http_port=0,
        resync_seconds=float(os.environ.get("RESYNC", "3600")),
    )


if __name__ == "__main__":
    logs.configure("json", "info")
    sys.exit(asyncio.run(run(_options(), {}, make_reconcile)))
