"""Streams outlive changes of the replica set, two replicas share the work, a killed one takes little along, and a stop
lets streams finish.

One application, from one replica to two and back, under a stream that runs longer than HAProxy's default limit of 120 s
for connections of an old process.
"""

from __future__ import annotations

import http.client
import random
import re
import threading
import time
from collections import Counter
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

STREAM_SECONDS = 200
RAYS_DEFAULT = 120  # seconds, until connections of an earlier HAProxy are cut
STEP_SECONDS = 0.1  # per token: the engine is told to sleep
ADMIN = "admin-key-of-this-test"
REPLAYED = 128 * 1024  # bytes of a request, of which HAProxy keeps a copy
SERVES_PORTS = range(30_000, 31_001)  # of replicas
METRICS_PORT = random.randrange(14_000, 15_000)  # no other part of the application is given one of these
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
    deploy(app, engine_python, replicas=2)
    changed = time.monotonic()
    wait_until(lambda: len(reports(app)) == 2, 60, "both replicas answer")
    assert sorted(report["in_flight"] for report in reports(app).values()) == [0, 1], "one has the stream"
    assert set(reports(app)) == exported_replicas(), "one page has both"
    told = administer(app, "configure_logging", {"log_requests": False})
    assert (told["asked"], told["failed"]) == (2, 0), told
    flushed = administer(app, "flush_cache", {})
    assert sorted(one["status"] for one in flushed["replicas"]) == [200, 400], "one is busy, and says so"
    deploy(app, engine_python, replicas=1)
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
        deploy(app, engine_python, replicas=1, user_config={"config_id": "another"})
        wait_until(lambda: config_ids(app) == {"another"}, 30, "the change has arrived")
    assert set(answers) == {200}, "Serve takes a replica out of HAProxy while it is reconfigured: the head holds"
    wait_until(lambda: len(reports(app)) == 1, 30, "it has its place in HAProxy again")
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
    (replica,) = reports(app)
    assert whose("sglang:num_requests_total") == {("tiny", replica, "tiny")}
    assert proxy
    assert any(proxy <= names_at(port) for port in listening(app, "haproxy"))


def test_new_weights_reach_every_replica(app: ServeApp, engine_python: Path, tiny_model: Path) -> None:
    deploy(app, engine_python, replicas=2)
    wait_until(lambda: len(reports(app)) == 2, 60, "both replicas answer")
    told = administer(app, "update_weights_from_disk", {"model_path": str(tiny_model), "weight_version": "next"})
    assert (told["asked"], told["failed"]) == (2, 0), told
    assert all("Weight version updated to next" in one["body"]["message"] for one in told["replicas"]), told


def test_a_profile_is_taken_of_every_replica(app: ServeApp, engine_python: Path, tmp_path: Path) -> None:
    deploy(app, engine_python, replicas=2)
    wait_until(lambda: len(reports(app)) == 2, 60, "both replicas answer")
    begun = administer(app, "start_profile", {"output_dir": str(tmp_path), "activities": ["CPU"]})
    asked = [Request(app.url, "/v1/completions", {"prompt": "hi", "max_tokens": 5}) for _ in range(2)]
    assert [one.status() for one in asked] == [200, 200]
    ended = administer(app, "stop_profile", {})
    assert [(told["asked"], told["failed"]) for told in (begun, ended)] == [(2, 0), (2, 0)], (begun, ended)
    assert len(list(tmp_path.glob("*.trace.json.gz"))) == 2


class AtTheKill:
    """Requests of every kind that were under way on both of two slow replicas when one of them was killed: the one that
    had been asked to let all carry out an order."""

    def __init__(self, app: ServeApp) -> None:
        self._app = app
        self.streams = [self._stream(number) for number in (1, 2)]
        before = flushes(app)
        asked = {"Authorization": f"Bearer {ADMIN}"}
        self.order = Request(app.url, "/-/admin/flush_cache?timeout=300", {}, asked)  # both wait for their streams
        self._wait_for(2 + 3)  # the asked replica has the order twice
        killed, survivor = sorted(replicas(app).items(), key=lambda one: -one[1]["in_flight"])
        self.survivor = survivor[1]["replica"]
        self.flushes_before = before[self.survivor]
        body = {"prompt": "hi", "max_tokens": 100, "ignore_eos": True}
        self.large = [Request(app.url, "/v1/completions", {**body, "user": "x" * 2 * REPLAYED}) for _ in range(4)]
        self.small = [Request(app.url, "/v1/completions", body) for _ in range(8)]
        self._wait_for(2 + 3 + 4 + 8)
        killed[0].kill()

    def _stream(self, number: int) -> Stream:
        """HAProxy sends it to the replica that has fewer: each has one of two."""
        stream = Stream(self._app.url, max_tokens=900)
        self._wait_for(number)
        return stream

    def _wait_for(self, requests: int) -> None:
        wait_until(
            lambda: sum(in_flight(self._app)) == requests,
            10,
            lambda: f"{requests} requests on their way: {replicas(self._app)}",
        )


@pytest.fixture(scope="module")
def at_the_kill(app: ServeApp, engine_python: Path) -> AtTheKill:
    deploy(app, engine_python, replicas=2)
    wait_until(lambda: len(reports(app)) == 2, 60, "both replicas answer")
    administer(app, "slow_down", {"forward_sleep_time": STEP_SECONDS})
    return AtTheKill(app)


def test_what_waits_for_a_killed_replica_is_answered_by_another(at_the_kill: AtTheKill) -> None:
    assert [request.status() for request in at_the_kill.small] == [200] * 8


def test_what_is_larger_than_the_replay_buffer_is_lost_with_its_replica(at_the_kill: AtTheKill) -> None:
    """`front-errors` in docs/reference/parity.md. Those of the other replica are answered."""
    assert {request.status() for request in at_the_kill.large} == {200, 500}


def test_a_killed_replica_takes_no_streams_but_its_own(at_the_kill: AtTheKill) -> None:
    broken, whole = sorted(at_the_kill.streams, key=lambda stream: stream.is_running)
    assert broken.error is not None
    whole.require_more(30)
    whole.leave()


def test_an_order_to_all_is_carried_out_once_though_who_was_asked_died(app: ServeApp, at_the_kill: AtTheKill) -> None:
    """HAProxy would send it again, to the other replica, if the asked one had not begun to answer."""
    with pytest.raises(http.client.IncompleteRead):
        at_the_kill.order.status()
    administer(app, "flush_cache", {})  # an engine's orders queue up: this one is behind them
    survivor, once_and_this = at_the_kill.survivor, at_the_kill.flushes_before + 2
    wait_until(lambda: flushes(app)[survivor] >= once_and_this, 10, lambda: app.describe("the orders are done"))
    assert flushes(app)[survivor] == once_and_this
    wait_until(lambda: len(reports(app)) == 2, 200, "another replica comes, and sweeps what the killed one left")


def test_a_stop_lets_streams_finish_and_leaves_nothing(app: ServeApp, engine_python: Path) -> None:
    """Also when another replica has just died, upon which Serve calls the application unhealthy."""
    deploy(app, engine_python, replicas=2)
    wait_until(lambda: len(reports(app)) == 2, 60, "both replicas answer")
    stream = Stream(app.url, max_tokens=int(20 / STEP_SECONDS))
    wait_until(lambda: in_flight(app) == [0, 1], 30, "the stream has begun")
    processes = app.processes()
    idle, busy = sorted(found := replicas(app), key=lambda one: found[one]["in_flight"])
    state = Path(busy.environ()[ENV_STATE_DIR])
    app.read_events()
    idle.kill()
    app.wait_for("status", 15, status="UNHEALTHY")
    shared = [name for path in state.glob("*/shared-memory") for name in path.read_text().splitlines()]

    assert app.stop(grace=120) == 0, "Serve waits for the replica that it has begun to load"
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


def whose(series: str) -> set[tuple[str, str, str]]:
    """Endpoint, replica and model that the samples of a series name."""
    page = httpx.get(f"http://127.0.0.1:{METRICS_PORT}/metrics", timeout=30).text
    samples = re.findall(rf"^{series}{{(.*)}} ", page, re.MULTILINE)
    labels = [dict(re.findall(r'(\w+)="([^"]*)"', sample)) for sample in samples]
    return {(one["endpoint"], one["replica"], one["model_name"]) for one in labels}


def listening(app: ServeApp, name: str) -> set[int]:
    """Ports of the application's processes of this name."""
    found = (one for process in app.named(name) for one in process.net_connections())
    return {one.laddr.port for one in found if one.status == psutil.CONN_LISTEN}


def replicas(app: ServeApp) -> dict[psutil.Process, dict[str, Any]]:
    """What each says of itself, asked at its own port: HAProxy asks the one with the fewest requests."""
    return {one: httpx.get(f"{own_url(one)}/-/replica", timeout=30).json() for one in app.find("ServeReplica")}


def in_flight(app: ServeApp) -> list[int]:
    """How many requests the replicas have, the least busy one first."""
    return sorted(one["in_flight"] for one in replicas(app).values())


def own_url(replica: psutil.Process) -> str:
    """Where HAProxy finds it."""
    listening = (one.laddr for one in replica.net_connections() if one.status == psutil.CONN_LISTEN)
    (address,) = (one for one in listening if one.port in SERVES_PORTS)
    return f"http://127.0.0.1:{address.port}"


def flushes(app: ServeApp) -> Counter[str]:
    """How often each replica has carried the order out, by the request log."""
    log = app.log.read_text(errors="replace")
    return Counter(re.findall(r'"replica":"([^"]+)".*"path":"/flush_cache"', log))


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
