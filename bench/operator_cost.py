"""What the operator costs: many endpoints at once, on a real API server with real KubeRay beside it.

    PYTHONPATH=hack/cluster python bench/operator_cost.py --endpoints 1 100 1000 --idle-seconds 600

For each count a fresh control plane; with `--one-by-one` each endpoint comes when the last one has its RayService.
Times come from the API server's audit log: from the answer to the POST of an endpoint to the one of its RayService.
KubeRay's CPU over the same time is the baseline: absolute times depend on the machine. No pod runs, so this is the cost
of watching and writing alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml
from kubernetes.aio import config
from kubernetes.aio.client import Configuration
from localcluster import ControlPlane

from sglang_operator.cluster.api import Api
from sglang_operator.cluster.paths import ENDPOINT, RAY_SERVICE

ROOT = Path(__file__).parents[1]
NAMESPACE = "bench"
ACCOUNT = "operator"
USER = f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"
START_SECONDS = 60
LIMIT_SECONDS = 900
LOOK_SECONDS = 0.1
AT_ONCE = 32  # POSTs in flight
QUIET_SECONDS = 20  # without a write but NEWS: all has come to rest
NEWS = {"leases", "events"}
Object = dict[str, Any]
Make = Callable[[Path, int], Coroutine[Any, Any, None]]


@dataclass
class Row:
    """One count of endpoints; times in seconds unless the name says otherwise."""

    endpoints: int
    p50: float = 0
    p99: float = 0
    all_made: float = 0
    requests_each: float = 0
    cpu_ms_each: float = 0
    kuberay_cpu_ms_each: float = 0
    memory_mb: float = 0
    settled_requests_each: float = 0
    idle_seconds: float = 0
    idle_writes: int = 0
    idle_written: dict[str, int] = field(default_factory=dict)
    """Those writes by what was written, for example "patch sglangendpoints/status"."""
    restart_writes: int = 0
    """Of another operator that takes over then, until it has made a pass over each endpoint and rests."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--endpoints", type=int, nargs="+", default=[1, 100, 1000])
    options.add_argument("--one-by-one", action="store_true", help="each when the last one has its RayService")
    options.add_argument("--idle-seconds", type=float, default=600)
    given = options.parse_args()
    make = create_one_by_one if given.one_by_one else create
    for number in given.endpoints:
        print(json.dumps(asdict(measure(number, make, given.idle_seconds))), flush=True)


def measure(number: int, make: Make, idle_seconds: float) -> Row:
    with tempfile.TemporaryDirectory() as directory, ControlPlane(Path(directory) / "c") as plane:
        kubeconfig = account(plane)
        with operator(kubeconfig) as process:
            row = _measure(plane, process, number, make, idle_seconds)
        before = len(written(plane))
        with operator(kubeconfig):
            wait_for_passes(number)
            wait_for_rest(plane)
            row.restart_writes = len(written(plane)) - before
        return row


def _measure(plane: ControlPlane, process: psutil.Process, number: int, make: Make, idle_seconds: float) -> Row:
    row = Row(number)
    kuberay = psutil.Process(plane.process("ray-operator").pid)
    before, kuberay_before = cpu(process), cpu(kuberay)
    asyncio.run(make(plane.kubeconfig, number))
    made = wait_for_all(plane, number)
    row.cpu_ms_each = 1000 * (cpu(process) - before) / number
    row.kuberay_cpu_ms_each = 1000 * (cpu(kuberay) - kuberay_before) / number
    row.p50, row.p99 = quantile(made, 50), quantile(made, 99)
    row.all_made = max(answered(plane, "rayservices").values()) - min(answered(plane, "sglangendpoints").values())
    row.requests_each = mine(plane, until=max(answered(plane, "rayservices").values())) / number
    wait_for_rest(plane)
    row.settled_requests_each = mine(plane) / number
    row.memory_mb = process.memory_info().rss / 1e6
    before_idle = Counter(map(_what, written(plane)))
    print(f"so far {json.dumps(asdict(row))}; {idle_seconds:.0f} idle seconds follow", file=sys.stderr, flush=True)
    time.sleep(idle_seconds)
    row.idle_written = dict(Counter(map(_what, written(plane))) - before_idle)
    row.idle_seconds, row.idle_writes = idle_seconds, sum(row.idle_written.values())
    return row


def account(plane: ControlPlane) -> Path:
    """A kubeconfig of the operator's own, so that the audit log tells its requests from others."""
    plane.make_namespace(NAMESPACE)
    plane.kubectl("create", "serviceaccount", ACCOUNT, f"--namespace={NAMESPACE}")
    plane.kubectl(
        "create",
        "clusterrolebinding",
        ACCOUNT,
        "--clusterrole=cluster-admin",
        f"--serviceaccount={NAMESPACE}:{ACCOUNT}",
    )
    return plane.kubeconfig_of(NAMESPACE, ACCOUNT)


@contextmanager
def operator(kubeconfig: Path) -> Iterator[psutil.Process]:
    command = [str(Path(sys.executable).with_name("sglang-operator")), "run", "--lease-namespace", NAMESPACE]
    command += ["--http-port=18080", "--log-level=warning"]
    process = subprocess.Popen(command, env={**os.environ, "KUBECONFIG": str(kubeconfig)})
    try:
        wait_for_leader()
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def wait_for_leader() -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            if "sglang_operator_leader 1" in httpx.get("http://127.0.0.1:18080/metrics").text:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise SystemExit("the operator does not lead")


def wait_for_passes(number: int) -> None:
    """Until it has made so many."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        text = httpx.get("http://127.0.0.1:18080/metrics").text
        if sum(map(float, re.findall(r"^sglang_operator_reconcile_total\{.*\} (.*)$", text, re.MULTILINE))) >= number:
            return
        time.sleep(1)
    raise SystemExit(f"not {number} passes after {LIMIT_SECONDS} s")


async def create(kubeconfig: Path, number: int) -> None:
    """All at once."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(api: Api, body: Object) -> None:
        async with slots:  # more would wait for a connection of the client's, and time out there
            await api.create(ENDPOINT.of(NAMESPACE), body)

    async with connected(kubeconfig) as api:
        await asyncio.gather(*(one(api, body) for body in bodies(number)))


async def create_one_by_one(kubeconfig: Path, number: int) -> None:
    """Each after the RayService of the last one."""
    async with connected(kubeconfig) as api:
        for index, body in enumerate(bodies(number), start=1):
            await api.create(ENDPOINT.of(NAMESPACE), body)
            while len(await api.list(RAY_SERVICE.of(NAMESPACE))) < index:  # noqa: ASYNC110 - the operator makes it true
                await asyncio.sleep(LOOK_SECONDS)


@asynccontextmanager
async def connected(kubeconfig: Path) -> AsyncIterator[Api]:
    configuration = Configuration()
    await config.load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)  # type: ignore[no-untyped-call]
    api = Api(configuration)
    yield api
    await api.close()


def bodies(number: int) -> list[Object]:
    manifest = yaml.safe_load((ROOT / "examples/nvidia.yaml").read_text())
    return [{**manifest, "metadata": {"name": f"e{index}", "namespace": NAMESPACE}} for index in range(number)]


def wait_for_all(plane: ControlPlane, number: int) -> list[float]:
    """Seconds from each endpoint to its RayService."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        made, asked = answered(plane, "rayservices"), answered(plane, "sglangendpoints")
        if len(made) >= number:
            return sorted(at - asked[name.rpartition("-")[0]] for name, at in made.items())
        time.sleep(1)
    raise SystemExit(f"only {len(made)} of {number} RayServices after {LIMIT_SECONDS} s")


def wait_for_rest(plane: ControlPlane) -> None:
    """Until neither KubeRay nor the operator writes: what KubeRay still makes, the operator tells of."""
    deadline, last = time.monotonic() + LIMIT_SECONDS, -1
    while (now := sum(_resource(event) not in NEWS for event in plane.requests(writes=True))) != last:
        if time.monotonic() > deadline:
            raise SystemExit(f"no rest after {LIMIT_SECONDS} s")
        last = now
        time.sleep(QUIET_SECONDS)


def answered(plane: ControlPlane, kind: str) -> dict[str, float]:
    """Unix seconds of the answer to each POST of a kind, by name."""
    return {
        event["objectRef"]["name"]: at(event)
        for event in plane.requests()
        if event["verb"] == "create" and event["objectRef"]["resource"] == kind
    }


def mine(plane: ControlPlane, until: float = float("inf")) -> int:
    """Requests of the operator, watches and its Lease aside."""
    return sum(
        event["verb"] != "watch" and not _is_lease(event) and at(event) <= until for event in plane.requests(USER)
    )


def written(plane: ControlPlane) -> list[Any]:
    return [event for event in plane.requests(USER, writes=True) if not _is_lease(event)]


def _what(event: dict[str, Any]) -> str:
    subresource = event["objectRef"].get("subresource")
    return f"{event['verb']} {_resource(event)}{f'/{subresource}' if subresource else ''}"


def _is_lease(event: dict[str, Any]) -> bool:
    return _resource(event) == "leases"


def _resource(event: dict[str, Any]) -> str:
    return str(event.get("objectRef", {}).get("resource", ""))


def at(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["stageTimestamp"]).timestamp()


def cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def quantile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1] if len(values) > 1 else values[0]


if __name__ == "__main__":
    main()
