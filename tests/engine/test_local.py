"""The runner (`sglang_serve.local`) with an application that needs no engine: how it stops, and whose Ray it uses."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from engine.traces import no_trace

from sglang_operator.cli.local_process import Event, LocalProcess, import_path
from sglang_serve.local.ports import free_port

HERE = Path(__file__).parent
START_SECONDS = 240


class Runner(LocalProcess):
    """Serves `slow_app` on a free port."""

    def __init__(self, python: Path, log: Path, count: int) -> None:
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        super().__init__(python, slow_spec(port, count), log)

    def wait_for(self, name: str) -> list[Event]:
        """Events up to the one called `name`."""
        events: list[Event] = []
        while not events or events[-1]["event"] != name:
            event = self.next_event(START_SECONDS)
            assert event, f"no event {name!r} after {events}"
            events.append(event)
        return events


def slow_spec(port: int, count: int) -> dict[str, Any]:
    deployment = {"name": "SGLangServer", "graceful_shutdown_timeout_s": 900}
    application = {"name": "slow", "import_path": "slow_app:build", "args": {"count": count}, "route_prefix": "/"}
    paths = [str(HERE), *import_path().values()]
    return {
        "serve_config": {"applications": [{**application, "deployments": [deployment]}]},
        "env": {
            "PYTHONPATH": os.pathsep.join(paths),
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
        },
        "http_port": port,
    }


def test_running_streams_finish(engine_python: Path, tmp_path: Path) -> None:
    with no_trace(), Runner(engine_python, tmp_path / "log", count=40) as runner:
        runner.wait_for("ready")
        with httpx.stream("GET", runner.url, timeout=60) as response:
            lines = response.iter_lines()
            next(lines)
            runner.interrupt()
            assert list(lines) == [str(number) for number in range(40)]
        assert runner.wait_for("ended")[-1]["code"] == 0


def test_second_signal_ends_at_once(engine_python: Path, tmp_path: Path) -> None:
    with no_trace(), Runner(engine_python, tmp_path / "log", count=10_000) as runner:
        runner.wait_for("ready")
        with httpx.stream("GET", runner.url, timeout=60) as response:
            next(response.iter_lines())
            runner.interrupt()
            assert runner.wait_for("progress")[-1]["step"] == "stop"
            began = time.monotonic()
            runner.interrupt()
            runner.wait_for("ended")
            assert time.monotonic() - began < 20


@pytest.fixture
def running_ray(engine_python: Path) -> Iterator[str]:
    """The address of a Ray that somebody started on this machine."""
    address = f"127.0.0.1:{free_port()}"
    start = [str(engine_python), "-m", "ray.scripts.scripts", "start", "--head", "--block"]
    start += ["--include-dashboard=false", "--node-ip-address=127.0.0.1"]
    ports = [f"--port={address.partition(':')[2]}", f"--ray-client-server-port={free_port()}"]
    env = {**os.environ, **import_path(), "RAY_AUTH_MODE": "disabled"}
    with subprocess.Popen([*start, *ports], env=env, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout
            assert any("Ray runtime started" in line for line in child.stdout)
            yield address
        finally:
            child.terminate()


def listens(address: str) -> bool:
    host, _, port = address.partition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def test_running_ray_is_used_and_left(
    engine_python: Path, tmp_path: Path, running_ray: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", running_ray)
    with no_trace(), Runner(engine_python, tmp_path / "log", count=0) as runner:
        events = runner.wait_for("ready")
        assert running_ray in events[0]["message"]
        assert httpx.get(runner.url).status_code == 200
        runner.interrupt()
        assert runner.wait_for("ended")[-1]["code"] == 0
    assert listens(running_ray)
