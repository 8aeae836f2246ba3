"""An endpoint without a replica: requests are held on the head and answered when one is up, or told to come back.

One application, in the order of its life: at zero, a request that waits too long, many that wait long enough, zero
again, and a rollout's floor that wakes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from engine.apps import ServeApp, endpoint
from engine.clients import Request
from engine.deployed import deploy
from waiting import PATIENCE, wait_until
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect as connect_websocket

HOLD_SECONDS = 3
LOAD_SECONDS = 400  # on two busy cores
LONG_HOLD_SECONDS = 3600
ZERO_SECONDS = 300  # Serve looks back 30 s, then waits, then lets the replica end
AT_ONCE = 200
SCALING = {"min": 0, "max": 2, "upscaleDelaySeconds": 2, "downscaleDelaySeconds": 2, "idleSecondsBeforeZero": 2}
KEY = {"Authorization": "Bearer key-of-this-test"}
NOBODY = {"held": 0, "in_flight": 0, "hold_seconds": HOLD_SECONDS}
ASK = {"prompt": "hi", "max_tokens": 8, "ignore_eos": True}


@pytest.fixture(scope="module")
def app(engine_python: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeApp]:
    keys = tmp_path_factory.mktemp("keys")
    (keys / "team").write_text("key-of-this-test")
    api = {"keysSecret": {"name": "k"}}
    manifest = endpoint(tiny_model, scaling={**SCALING, "holdSeconds": HOLD_SECONDS}, api=api)
    serve = ServeApp(manifest, engine_python, keys_dir=keys)
    (deployment,) = serve.serve_config["applications"][0]["deployments"]
    deployment["ray_actor_options"]["num_cpus"] = 1  # a second replica would find room
    with serve:
        yield serve


def test_checks_and_the_operator_wake_nobody(app: ServeApp) -> None:
    assert httpx.get(f"{app.url}/health").status_code == httpx.codes.OK
    assert told(app) == {**NOBODY, "target": 0}
    assert replicas(app) == 0


def test_who_brings_no_key_or_a_wrong_one_is_refused_and_wakes_nobody(app: ServeApp) -> None:
    reply = httpx.post(f"{app.url}/v1/completions", json=ASK, timeout=60)
    assert (reply.status_code, reply.json()) == (httpx.codes.UNAUTHORIZED, {"error": "Unauthorized"})
    wrong = httpx.post(f"{app.url}/v1/completions", json=ASK, headers={"Authorization": "Bearer wrong"}, timeout=60)
    assert wrong.status_code == httpx.codes.UNAUTHORIZED
    with pytest.raises(InvalidStatus) as refused:
        open_websocket(app.url, headers={})
    assert refused.value.response.status_code == httpx.codes.FORBIDDEN
    assert httpx.get(f"{app.url}/health_generate", timeout=60).json() == {"replicas": 0}
    asks = {"Origin": "https://page.example", "Access-Control-Request-Method": "POST"}
    preflight = httpx.options(f"{app.url}/v1/completions", headers=asks, timeout=60)
    assert preflight.headers["access-control-allow-origin"] == "https://page.example"
    assert told(app) == {**NOBODY, "target": 0}
    assert replicas(app) == 0


def test_a_request_that_waits_too_long_is_told_when_to_come_back(app: ServeApp) -> None:
    reply = httpx.post(f"{app.url}/v1/completions", json=ASK, headers=KEY, timeout=60)
    assert reply.status_code == httpx.codes.SERVICE_UNAVAILABLE
    assert int(reply.headers["retry-after"]) > 0
    assert "holdSeconds" in reply.json()["message"]
    assert HOLD_SECONDS <= reply.elapsed.total_seconds() < HOLD_SECONDS + 5
    with pytest.raises(InvalidStatus) as refused:
        open_websocket(app.url)
    assert refused.value.response.status_code == httpx.codes.SERVICE_UNAVAILABLE
    wait_until(lambda: replicas(app) == 1, 60, "a replica starts all the same")
    assert told(app) == {**NOBODY, "target": 1}


def test_many_at_once_start_one_replica_and_are_all_answered(app: ServeApp, engine_python: Path) -> None:
    (starting,) = app.find("ServeReplica")
    deploy(app, engine_python, user_config={"hold_seconds": LONG_HOLD_SECONDS})  # in place, while it starts
    wait_until(lambda: told(app)["hold_seconds"] == LONG_HOLD_SECONDS, 60, "the head has heard of it")
    with ThreadPoolExecutor(AT_ONCE + 1) as pool, client(app) as shared:
        asked = [pool.submit(complete, shared, stream=index % 2 == 0) for index in range(AT_ONCE)]
        socket = pool.submit(open_websocket, app.url)
        leaver = Request(app.url, "/v1/completions", ASK, KEY)
        wait_until(lambda: held(app) == AT_ONCE + 2, 60, lambda: f"all of them are held: {told(app)}")
        leaver.leave()
        wait_until(lambda: held(app) == AT_ONCE + 1, 60, "the one that left is not")
        most = most_replicas(app, asked)
        assert [one.result() for one in asked] == [httpx.codes.OK] * AT_ONCE
        socket.result()
    assert most == 1
    assert starting in app.find("ServeReplica"), "not restarted by the change"


def test_it_goes_to_zero_again_and_a_floor_wakes_it(app: ServeApp, engine_python: Path) -> None:
    wait_until(lambda: replicas(app) == 0, ZERO_SECONDS, "the replica has gone")
    assert told(app) == {**NOBODY, "target": 0, "hold_seconds": LONG_HOLD_SECONDS}
    (deployment,) = app.serve_config["applications"][0]["deployments"]
    deploy(app, engine_python, autoscaling_config={**deployment["autoscaling_config"], "min_replicas": 1})
    wait_until(lambda: replicas(app) == 1, 60, "a replica starts without a request")


def told(app: ServeApp) -> dict[str, Any]:
    """What the head says to the operator."""
    said: dict[str, Any] = httpx.get(f"{app.url}/-/replica", timeout=60).json()
    assert said.pop("idle_seconds") >= 0
    assert said.pop("wished_seconds") >= 0
    return said


def held(app: ServeApp) -> int:
    """Fails if a replica answers instead of the head."""
    return int(told(app)["held"])


def replicas(app: ServeApp) -> int:
    return len(app.find("ServeReplica"))


def most_replicas(app: ServeApp, asked: list[Future[int]]) -> int:
    """The most that there were at one time until the first is answered: from then on it is load like any other."""
    seen = [0]

    def look() -> bool:
        seen.append(replicas(app))
        return any(one.done() for one in asked)

    wait_until(look, LOAD_SECONDS, "one is answered")
    return max(seen)


def open_websocket(url: str, headers: Mapping[str, str] = KEY) -> None:
    """Open and close one; raises InvalidStatus if it is refused."""
    path = f"{url.replace('http', 'ws', 1)}/v1/realtime"
    with connect_websocket(path, open_timeout=PATIENCE * LOAD_SECONDS, additional_headers=headers):
        pass


def client(app: ServeApp) -> httpx.Client:
    """For all requests at once: a client of its own for each costs more than an engine leaves of two cores."""
    limits = httpx.Limits(max_connections=AT_ONCE)
    return httpx.Client(base_url=app.url, headers=KEY, timeout=PATIENCE * LOAD_SECONDS, limits=limits)


def complete(client: httpx.Client, *, stream: bool) -> int:
    """Status of a completion that was read to its end."""
    with client.stream("POST", "/v1/completions", json={**ASK, "stream": stream}) as reply:
        text = "".join(reply.iter_text())
    assert not stream or text.rstrip().endswith("data: [DONE]"), text
    return reply.status_code
