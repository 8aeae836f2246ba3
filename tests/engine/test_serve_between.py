"""What Ray Serve would do between its HTTP server and our app, and does not: behind the real one, without an engine."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from engine.test_local import HERE, START_SECONDS
from waiting import wait_until
from websockets.sync.client import connect

from sglang_operator.cli.local_process import LocalProcess, import_path
from sglang_serve.args import SERVE_MIDDLEWARES
from sglang_serve.local.ports import free_port

ZERO_SECONDS = 60
SCALING = {
    "min_replicas": 0,
    "initial_replicas": 1,
    "max_replicas": 1,
    "look_back_period_s": 2,
    "metrics_interval_s": 0.5,
    "downscale_to_zero_delay_s": 20,  # not before the websocket is there: one that wakes it goes through the head
}
MESSAGE = b"x" * 1_000_000
MESSAGES = 200
AHEAD = 50  # of them at most: 4 MiB and what lies in the buffers of the kernel and of HAProxy


@pytest.fixture
def url(engine_python: Path, tmp_path: Path) -> Iterator[str]:
    port = free_port()
    deployment = {"name": "SGLangServer", "autoscaling_config": SCALING, "max_ongoing_requests": 100}
    application = {"name": "counted", "import_path": "counted_app:build", "args": {}, "route_prefix": "/"}
    spec: dict[str, Any] = {
        "serve_config": {"applications": [{**application, "deployments": [deployment]}]},
        "env": {
            "PYTHONPATH": os.pathsep.join([str(HERE), *import_path().values()]),
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
            "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": SERVE_MIDDLEWARES,
            "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
        },
        "http_port": port,
    }
    with LocalProcess(engine_python, spec, tmp_path / "log") as process:
        while (event := process.next_event(START_SECONDS)) is None or event["event"] != "ready":
            assert event, (tmp_path / "log").read_text()[-3000:]
        yield f"http://127.0.0.1:{port}"


def test_a_slow_app_is_sent_no_more_than_it_takes_and_checks_keep_no_replica(url: str) -> None:
    """In this order: the second ends the replica."""
    slow_websocket(url)
    wait_until(lambda: "replicas" in httpx.get(f"{url}/health", timeout=60).text, ZERO_SECONDS, "the replica has gone")


def slow_websocket(url: str) -> None:
    sent: list[int] = []
    with connect(f"{url.replace('http', 'ws')}/ws", compression=None, ping_interval=None) as client:

        def send() -> None:
            for number in range(MESSAGES):
                client.send(MESSAGE)
                sent.append(number)

        sender = threading.Thread(target=send)
        sender.start()
        seen = -1
        while seen < len(sent) < MESSAGES:
            seen = len(sent)
            sender.join(3)
        assert 0 < len(sent) < AHEAD
        httpx.get(f"{url}/go", timeout=60)
        sender.join()
    assert httpx.get(f"{url}/taken", timeout=60).text == str(MESSAGES * len(MESSAGE))
