"""Streams outlive changes of the replica set, two replicas share the work, and a stop lets streams finish.

One application, from one replica to two and back, under a stream that runs longer than HAProxy's default limit of 120 s
for connections of an old process.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from engine.apps import TINY_ENGINE, ServeApp, endpoint
from engine.clients import Request, Stream
from engine.deployed import deploy, reports
from waiting import wait_until

from sglang_serve.args import ENV_METRICS_PORT, ENV_STATE_DIR
from sglang_serve.local.ports import free_port

STREAM_SECONDS = 200
RAYS_DEFAULT = 120  # seconds, until connections of an earlier HAProxy are cut
STEP_SECONDS = 0.1  # per token: the engine is told to sleep
ADMIN = "admin-key-of-this-test"
METRICS_PORT = free_port()
METRICS_PAGE = Path(__file__).parents[2] / "docs" / "operations" / "metrics.md"


@pytest.fixture(scope="module")
def app(engine_python: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeApp]:
    key = tmp_path_factory.mktemp("admin") / "key"
    key.write_text(ADMIN)
    engine = {"args": {**TINY_ENGINE, "enable_metrics": True}}
    manifest = endpoint(tiny_model, engine=engine, api={"adminKeySecret": {"name": "a", "key": "key"}})
    serve = ServeApp(manifest, engine_python, admin_key_file=key, env={ENV_METRICS_PORT: str(METRICS_PORT)})
    (deployment,) = serve.serve_config["applications"][0]["deployments"]
    deployment["ray_actor_options"]["num_cpus"] = 1  # Ray is started for one replica, and two must find room
    with serve:
        slow_down(serve)
        yield serve


@pytest.mark.long
def test_a_long_stream_lives_through_two_scale_events(app: ServeApp, engine_python: Path) -> None:
    began = time.monotonic()
    stream = Stream(app.url, max_tokens=int(STREAM_SECONDS / STEP_SECONDS))
    deploy(app, engine_python, num_replicas=2)
    changed = time.monotonic()
    wait_until(lambda: len(reports(app)) == 2, 60, "both replicas answer")
    assert sorted(report["in_flight"] for report in reports(app).values()) == [0, 1], "one has the stream"
    assert set(reports(app)) == exported_replicas(), "one page has both"
    told = administer(app, "configure_logging", {"log_requests": False})
    assert (told["asked"], told["failed"]) == (2, 0), told
    flushed = administer(app, "flush_cache", {})
    assert sorted(one["status"] for one in flushed["replicas"]) == [200, 400], "one is busy, and says so"
    deploy(app, engine_python, num_replicas=1)
    assert stream.is_running, "the stream was too short to see both events"
    stream.require_complete(STREAM_SECONDS * 3)
    assert time.monotonic() - began >= STREAM_SECONDS
    assert time.monotonic() - changed > RAYS_DEFAULT + 10, "Ray's default would have cut it"


def test_a_replica_reports_itself(app: ServeApp, engine_python: Path) -> None:
    wait_until(lambda: len(reports(app)) == 1, 180, "the other replica has gone")
    (before,) = reports(app).values()
    assert before["endpoint"] == "tiny"
    assert before["node_ip"]
    with asking(app) as answers:
        deploy(app, engine_python, num_replicas=1, user_config={"config_id": "another"})
        wait_until(lambda: config_ids(app) == {"another"}, 30, "the change has arrived")
    assert set(answers) == {200}, "Serve takes a replica out of HAProxy while it is reconfigured: the head holds"
    (after,) = reports(app, "?generate=1").values()
    assert after["replica"] == before["replica"], "not restarted for it"
    assert after["in_flight"] == 0


def test_the_documented_series_are_there(app: ServeApp) -> None:
    """But for Ray's, which without a cluster has no page."""
    Stream(app.url, max_tokens=4).require_complete(30)  # one token alone has no time per token
    page = METRICS_PAGE.read_text()
    engine, proxy = (set(re.findall(rf"^\| `([a-z0-9_:]+)` \| {port}", page, re.MULTILINE)) for port in (8081, 9101))
    assert engine
    assert engine <= names_at(METRICS_PORT)
    assert proxy
    assert any(proxy <= names_at(port) for port in listening(app, "haproxy"))


def test_new_weights_reach_every_replica(app: ServeApp, engine_python: Path, tiny_model: Path) -> None:
    deploy(app, engine_python, num_replicas=2)
    wait_until(lambda: len(reports(app)) == 2, 60, "both replicas answer")
    told = administer(app, "update_weights_from_disk", {"model_path": str(tiny_model), "weight_version": "next"})
    assert (told["asked"], told["failed"]) == (2, 0), told
    assert all("Weight version updated to next" in one["body"]["message"] for one in told["replicas"]), told


def test_what_waits_for_a_killed_replica_is_answered_by_another(app: ServeApp, engine_python: Path) -> None:
    deploy(app, engine_python, num_replicas=2)
    wait_until(lambda: len(reports(app)) == 2, 60, "both replicas answer")
    body = {"prompt": "hi", "max_tokens": 50, "ignore_eos": True}  # 5 s on the one that was slowed down
    waiting = [Request(app.url, "/v1/completions", body) for _ in range(8)]
    wait_until(lambda: max(one["in_flight"] for one in reports(app).values()) >= 3, 10, "some wait for the slow one")
    min(app.find("ServeReplica"), key=lambda process: process.create_time()).kill()
    assert [request.status() for request in waiting] == [200] * 8
    wait_until(lambda: len(reports(app)) == 2, 200, "another replica comes, and sweeps what the killed one left")


def test_a_stop_lets_streams_finish_and_leaves_nothing(app: ServeApp) -> None:
    stream = Stream(app.url, max_tokens=50)
    processes = app.processes()
    replica = next(process for process in processes if "ServeReplica" in " ".join(process.cmdline()))
    state = Path(replica.environ()[ENV_STATE_DIR])
    shared = [name for path in state.glob("*/shared-memory") for name in path.read_text().splitlines()]

    assert app.stop() == 0
    stream.require_complete(5)
    assert [process for process in processes if process.is_running()] == []
    assert not state.exists()
    assert [name for name in shared if Path(name).exists()] == []


def exported_replicas() -> set[str]:
    page = httpx.get(f"http://127.0.0.1:{METRICS_PORT}/metrics", timeout=30).text
    assert 'endpoint="tiny"' in page
    return set(re.findall(r'replica="([^"]+)"', page))


def names_at(port: int) -> set[str]:
    """Of the metric families on that port's page, if it has one."""
    asked = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}  # as Prometheus 2 does
    page = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=30, headers=asked)
    return set(re.findall(r"^# TYPE (\S+)", page.text, re.MULTILINE))


def listening(app: ServeApp, name: str) -> set[int]:
    """Ports of the application's processes of this name."""
    found = (one for process in app.processes() if process.name() == name for one in process.net_connections())
    return {one.laddr.port for one in found if one.status == psutil.CONN_LISTEN}


def slow_down(app: ServeApp) -> None:
    """Let the engine of the only replica sleep before each step."""
    body = {"forward_sleep_time": STEP_SECONDS}
    headers = {"Authorization": f"Bearer {ADMIN}"}
    httpx.post(f"{app.url}/slow_down", json=body, headers=headers, timeout=30).raise_for_status()


def administer(app: ServeApp, route: str, body: dict[str, Any]) -> dict[str, Any]:
    """What all replicas say to an admin request."""
    headers = {"Authorization": f"Bearer {ADMIN}"}
    answer = httpx.post(f"{app.url}/-/admin/{route}", json=body, headers=headers, timeout=60).raise_for_status()
    told: dict[str, Any] = answer.json()
    return told


@contextmanager
def asking(app: ServeApp) -> Iterator[list[int]]:
    """A client that asks one question after the other; yields the status codes of its answers."""
    answers: list[int] = []
    enough = threading.Event()

    def ask() -> None:
        while not (enough.is_set() and answers):
            body = {"model": "tiny", "prompt": "a", "max_tokens": 1}
            answers.append(httpx.post(f"{app.url}/v1/completions", json=body, timeout=60).status_code)

    client = threading.Thread(target=ask)
    client.start()
    try:
        yield answers
    finally:
        enough.set()
        client.join()


def config_ids(app: ServeApp) -> set[str]:
    return {report["config_id"] for report in reports(app).values()}
