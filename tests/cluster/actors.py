"""Who acts in the cluster tests: the operator as a process of this machine, users with kubectl, clients under load."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import waiting
from cluster.endpoints import ADMIN_KEY, admin_secret, put_tiny_model
from cluster.load import LONG_TOKENS, Count
from localcluster.cluster import LocalCluster

from sglang_operator.cluster.selection import SWITCHED_AT

ROOT = Path(__file__).parents[2]
LOAD = str(Path(__file__).with_name("load.py"))
OPERATOR = str(Path(sys.executable).with_name("sglang-operator"))
GONE_SECONDS = 900
STEP_SECONDS = 0.02  # as a real model's
SEED = "SGLANG_TEST_SEED"
Object = dict[str, Any]


def wait_until(holds: Callable[[], Any], seconds: float, what: str | Callable[[], str]) -> Any:
    """As in all tiers, but seldom: each look is a kubectl, on the cores that an engine loads on."""
    return waiting.wait_until(holds, seconds, what, step=2)


@dataclass
class Operator:
    """`sglang-operator run` with an administrator's kubeconfig. Its log survives a kill."""

    kubeconfig: Path
    log: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [OPERATOR, "run", "--no-leader-election", f"--http-port={self.port}", "--log-format=text"]
        with self.log.open("ab") as log:
            env = {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
            self.process = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self.process:
            self.process.send_signal(number)
            self.process.wait(30)
            self.process = None

    def passes(self) -> int:
        """How many it has made; 0 while it does not answer."""
        try:
            text = httpx.get(f"http://127.0.0.1:{self.port}/metrics", timeout=5).text
        except httpx.HTTPError:
            return 0
        return int(sum(map(float, re.findall(r"^sglang_operator_reconcile_total\{.*\} (.*)$", text, re.MULTILINE))))

    def restart(self) -> None:
        """As a crash of its pod."""
        self.end(signal.SIGKILL)
        self.start()


@dataclass
class Kills:
    """How often somebody was killed, at moments drawn from the seed."""

    seed: int
    number: int = 0


@contextmanager
def killed_again_and_again(operator: Operator) -> Iterator[Kills]:
    """SIGKILL every 2 to 12 s while the body runs, but only once it has made passes: on a busy machine it takes long to
    start, and one that is never there proves nothing. The count is complete after the block."""
    kills = Kills(int(os.environ.get(SEED) or random.SystemRandom().getrandbits(32)))
    print(f"again with the same moments: {SEED}={kills.seed}")
    done, chosen = threading.Event(), random.Random(kills.seed)

    def kill() -> None:
        while not done.wait(chosen.uniform(2, 12)):
            if operator.passes():
                operator.restart()
                kills.number += 1

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield kills
    finally:
        done.set()
        killer.join()


@dataclass
class User:
    """Somebody with kubectl and one endpoint."""

    kubectl: Callable[..., str]
    namespace: str
    name: str = ""

    def run(self, *words: str, stdin: str = "") -> str:
        return self.kubectl("--namespace", self.namespace, *words, stdin=stdin)

    def read(self, kind: str, *words: str) -> Object:
        found: Object = json.loads(self.run("get", kind, *words, "--output=json"))
        return found

    def apply(self, manifest: Object) -> None:
        self.name = manifest["metadata"]["name"]
        self.run("apply", "--filename=-", stdin=json.dumps(manifest))

    def make_admin_key(self) -> None:
        """The Secret of endpoints that are administered()."""
        self.run("apply", "--filename=-", stdin=json.dumps(admin_secret()))

    def edit(self, field: str, value: Any) -> None:
        """Replace a field of the spec as a whole."""
        operations = json.dumps([{"op": "add", "path": f"/spec/{field}", "value": value}])
        self.run("patch", "sgl", self.name, "--type=json", f"--patch={operations}")

    @property
    def status(self) -> Object:
        found: Object = self.read("sgl", self.name).get("status", {})
        return found

    def condition(self, name: str) -> Object:
        return next((one for one in self.status.get("conditions", ()) if one["type"] == name), {})

    @property
    def serving(self) -> str:
        return str(self.status.get("serving", {}).get("revision", ""))

    @property
    def moved_at(self) -> str:
        """When its Service was last moved, as the Service says."""
        return str(self.read("service", self.name)["metadata"]["annotations"][SWITCHED_AT])

    def ray_services(self) -> list[str]:
        return sorted(item["metadata"]["name"] for item in self.read("rayservices")["items"])

    def workers(self) -> list[str]:
        """Names of the endpoint's worker pods, without those that are on their way out."""
        return sorted(pod["metadata"]["name"] for pod in self.pods("ray.io/node-type=worker"))

    def nodes(self, kind: str = "worker") -> set[str]:
        """Those that the endpoint's worker pods are on, or its heads."""
        return {pod["spec"].get("nodeName", "") for pod in self.pods(f"ray.io/node-type={kind}")}

    def pods(self, selector: str) -> list[Object]:
        """Those that are not on their way out."""
        found = self.read("pods", f"--selector={selector}")["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def url(self) -> str:
        return f"http://{self.read('service', self.name)['spec']['clusterIP']}"

    def slow_down(self, port: int = 80) -> None:
        """Let the engine sleep before each step, as it would on an accelerator, until another revision serves.

        A toy model's streams take a whole core otherwise, and what loads beside it on two cores takes minutes.
        """
        body, headers = {"forward_sleep_time": STEP_SECONDS}, {"Authorization": f"Bearer {ADMIN_KEY}"}
        httpx.post(f"{self.url()}:{port}/slow_down", json=body, headers=headers, timeout=60).raise_for_status()

    def wait_for(self, name: str, status: str, reason: str = "", seconds: float = 300) -> Object:
        """Wait for a condition; fails with all that status says."""

        def holds() -> bool:
            found = self.condition(name)
            return found.get("status") == status and reason in ("", found.get("reason"))

        wait_until(holds, seconds, lambda: f"{name}={status} {reason}: {json.dumps(self.status, indent=1)}")
        return self.condition(name)

    def wait_for_switch(self, before: str, seconds: float = 800) -> str:
        """Wait until another revision than `before` serves, which may still drain; returns its name."""

        def done() -> bool:
            return self.serving not in ("", before)

        wait_until(done, seconds, lambda: f"traffic away from {before}: {json.dumps(self.status, indent=1)}")
        return self.serving

    def wait_for_rollout(self, before: str, seconds: float = 800) -> str:
        """Wait until another revision than `before` serves and nothing else is left; returns its name."""

        def done() -> bool:
            serving = self.serving
            return serving not in ("", before) and self.ray_services() == [serving]

        wait_until(done, seconds, lambda: f"a rollout away from {before}: {json.dumps(self.status, indent=1)}")
        return self.serving


COUNTED: list[str] = []
"""What each load of this run lost, for the last lines of pytest: a claim about loss has its numbers."""


@dataclass
class Working:
    """A load that runs; `count` once it has ended."""

    process: subprocess.Popen[str]
    count: Count = field(default_factory=Count)
    event_seconds: float = 0.0
    """Of the longest event."""

    @contextmanager
    def event(self) -> Iterator[None]:
        """What happens in the body, all of it while one and the same stream runs; it has no end before.

        What waits for a drain comes after the body: it would wait for this stream.
        """
        assert self._turn() == "running", "the load has ended"
        began = time.monotonic()
        yield
        self.event_seconds = max(self.event_seconds, time.monotonic() - began)
        lost = json.loads(self._turn())
        assert not lost, f"a stream did not live as long as the event: {lost}"

    def _turn(self) -> str:
        """Begin a witness, or end the one that runs; what the load says of it."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


@contextmanager
def load(
    url: str, *, kept: int = 2, fresh: int = 2, long: int = 1, long_tokens: int = LONG_TOKENS
) -> Iterator[Working]:
    """Clients at work while the body runs. Their streams are read to the end before `count` is there."""
    command = [sys.executable, LOAD, url, f"--kept={kept}", f"--fresh={fresh}", f"--long={long}"]
    command += [f"--long-tokens={long_tokens}"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    working = Working(process)
    try:
        yield working
        out, _ = process.communicate(timeout=1200)
        working.count = Count.read(json.loads(out))
        COUNTED.append(f"{os.environ.get('PYTEST_CURRENT_TEST', '').partition(' ')[0]}: {working.count}")
        assert working.count.longest_seconds >= working.event_seconds, "no stream is as long as the longest event"
    finally:
        process.kill()
        process.communicate()


@contextmanager
def somebody(cluster: LocalCluster, name: str) -> Iterator[User]:
    """A user with the tiny model and a namespace of their own; what they make in it goes with the block."""
    put_tiny_model(cluster.models)
    user = User(cluster.control_plane.kubectl, f"{name}-{os.getpid()}")  # a kept cluster has those of earlier runs
    cluster.control_plane.make_namespace(user.namespace)
    try:
        yield user
    finally:
        user.run("delete", "sgl", "--all")
        wait_until(lambda: not user.read("pods")["items"], GONE_SECONDS, "the pods of a deleted endpoint to go")
        user.run("delete", "namespace", user.namespace, "--wait=false")
