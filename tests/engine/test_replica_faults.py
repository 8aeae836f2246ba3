"""One replica, and what may befall it: clients that leave, an engine that is busy, long over new weights, hung or dead,
a killed replica.

In this order, on one application: each test ends with a replica that serves.
"""

from __future__ import annotations

import shutil
import signal
import time
from array import array
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from engine.apps import ServeApp, endpoint
from engine.clients import Request, Stream, answers, load, requests_in_engine
from localcluster.kubectl import until
from waiting import wait_until

from sglang_serve.args import ENV_STATE_DIR
from sglang_serve.health import PROBE_SECONDS

RESTART_SECONDS = 400  # of a replica, on two busy cores
FAILURES = 3  # of the health check in a row, until Serve replaces a replica
ADMIN = "admin-key-of-this-test"
LONG = {"max_tokens": 30_000, "ignore_eos": True}
MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def app(engine_python: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeApp]:
    key = tmp_path_factory.mktemp("admin") / "key"
    key.write_text(ADMIN)
    engine = {"args": {"max_total_tokens": 131_072, "max_running_requests": 16}}
    api = {"adminKeySecret": {"name": "a", "key": "key"}, "unknownModel": "NotFound"}
    manifest = endpoint(tiny_model, engine=engine, api=api)
    serve = ServeApp(manifest, engine_python, admin_key_file=key)
    (deployment,) = serve.serve_config["applications"][0]["deployments"]
    deployment["health_check_period_s"] = 1
    with serve:
        yield serve


LEAVING: dict[str, tuple[str, Mapping[str, Any], int]] = {
    "stream": ("/v1/completions", {"prompt": "hi", "stream": True, **LONG}, 1),
    "whole": ("/v1/completions", {"prompt": "hi", **LONG}, 1),
    "chat": ("/v1/chat/completions", {"messages": MESSAGES, "stream": True, **LONG}, 1),
    "whole chat": ("/v1/chat/completions", {"messages": MESSAGES, **LONG}, 1),
    "n of a stream": ("/v1/completions", {"prompt": "hi", "n": 4, "stream": True, **LONG}, 4),
    "n of a whole": ("/v1/chat/completions", {"messages": MESSAGES, "n": 4, **LONG}, 4),
    "several prompts": ("/v1/completions", {"prompt": ["a", "b", "c"], **LONG}, 3),
    "native": ("/generate", {"text": "hi", "sampling_params": {"max_new_tokens": 30_000, "ignore_eos": True}}, 1),
}


@pytest.mark.parametrize("kind", LEAVING)
@pytest.mark.parametrize("headers", [{}, {"x-request-disconnect-disabled": "?1"}], ids=["plain", "asks-to-ignore-it"])
def test_a_client_that_leaves_frees_its_slots_within_a_second(
    app: ServeApp, kind: str, headers: Mapping[str, str]
) -> None:
    path, body, slots = LEAVING[kind]
    request = Request(app.url, path, body, headers)
    wait_until(lambda: requests_in_engine(app.url) == slots, 30, f"{slots} requests run")
    request.leave()
    left = time.monotonic()
    wait_until(lambda: requests_in_engine(app.url) == 0, 10, "its slots are free")
    assert time.monotonic() - left < 1.0


def test_a_busy_engine_is_left_alone(app: ServeApp) -> None:
    before = scheduler(app).pid
    load(app.url, clients=48, seconds=PROBE_SECONDS + 5)  # three times what the engine runs at once
    assert scheduler(app).pid == before
    assert "health check failed" not in app.log.read_text(errors="replace").lower()


@pytest.mark.long
def test_a_replica_that_stands_still_for_a_while_keeps_its_place(app: ServeApp) -> None:
    """As one does that takes a huge batch of prompts apart. By default HAProxy drops a server within 16 s, and what is
    asked then goes to the head, which says that no replica is there."""
    (replica,) = app.find("ServeReplica")
    with ThreadPoolExecutor(1) as pool:
        replica.suspend()
        try:
            asked = pool.submit(httpx.post, f"{app.url}/v1/completions", json={"prompt": "hi"}, timeout=120)
            for _ in range(25):
                with pytest.raises(httpx.ReadTimeout):
                    httpx.get(f"{app.url}/-/replica", timeout=1)
        finally:
            replica.resume()
        assert asked.result().status_code == httpx.codes.OK, asked.result().text
    assert app.find("ServeReplica") == [replica]


@pytest.mark.long
def test_an_engine_that_is_long_over_new_weights_is_left_alone(app: ServeApp, tiny_model: Path, tmp_path: Path) -> None:
    """Its processes are as silent as those of a hung one; here they are stopped, as no tiny model loads so slowly."""
    engine, before = scheduler(app), said(app)
    # A health check from just before the update waits in the stopped scheduler, and SGLang then refuses the update.
    asked = {"model_path": str(negated(tiny_model, tmp_path / "other")), "abort_all_requests": True}
    with ThreadPoolExecutor(1) as pool:
        engine.suspend()
        try:
            update = pool.submit(administer, app, "update_weights_from_disk", asked)
            ended, _ = psutil.wait_procs([engine], timeout=FAILURES * (PROBE_SECONDS + 5))
        finally:
            if engine.is_running():
                engine.resume()
        assert ended == [], "a hung one is replaced within this time"
        assert (update.result()["asked"], update.result()["failed"]) == (1, 0), update.result()
    assert scheduler(app) == engine
    assert said(app) != before, "it has the new weights"


@pytest.mark.parametrize("path", ["/update_weights_from_disk", "/-/admin/update_weights_from_disk"])
def test_an_administrator_who_leaves_ends_no_engine(app: ServeApp, tiny_model: Path, path: str) -> None:
    """SGLang kills its process when the answer to an order comes that nobody awaits any more."""
    engine, replica = scheduler(app), replica_process(app)
    asked = {"model_path": str(tiny_model), "abort_all_requests": True, "weight_version": path}
    engine.suspend()
    try:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{app.url}{path}", json=asked, headers={"Authorization": f"Bearer {ADMIN}"}, timeout=2)
    finally:
        engine.resume()
    wait_until(lambda: weight_version(app) == path, 30, "the order is carried out")
    assert (scheduler(app), replica_process(app)) == (engine, replica)
    body = {"model": "tiny", "prompt": "hi", "max_tokens": 1}
    asked_by_name = httpx.post(f"{app.url}/v1/completions", json=body, timeout=60)
    assert asked_by_name.status_code == httpx.codes.OK, f"SGLang has a new name now: {asked_by_name.text}"


def weight_version(app: ServeApp) -> str:
    return str(httpx.get(f"{app.url}/model_info", timeout=60).json()["weight_version"])


def test_a_hung_engine_is_replaced(app: ServeApp) -> None:
    """A drain would wait for the stream, which gets no further and whose client does not leave."""
    hung, seconds = scheduler(app), drain_seconds(app)
    stream = Stream(app.url, silence=seconds, max_tokens=30_000)
    hung.suspend()
    seen: set[int] = set()

    def look(done: Callable[[], bool]) -> bool:
        seen.add(len(app.find("ServeReplica")))
        return done()

    until(lambda: look(lambda: not hung.is_running()), seconds / 3, lambda: app.describe("the hung engine to go"))
    wait_until(lambda: not stream.is_running, 10, "the stream breaks with it")
    wait_until(
        lambda: look(lambda: replaced(app, hung)), RESTART_SECONDS, lambda: app.describe("another replica serves")
    )
    assert max(seen) == 1, "the resources of one replica are enough"


def test_a_dead_engine_is_replaced_at_once(app: ServeApp) -> None:
    dead, replica = scheduler(app), replica_process(app)
    dead.send_signal(signal.SIGKILL)
    until(lambda: not replica.is_running(), 5, "the replica to end with its engine")
    wait_until(lambda: replaced(app, dead), RESTART_SECONDS, lambda: app.describe("another replica serves"))
    assert '"event": "engine_died"' in app.log.read_text(errors="replace")


def test_a_killed_replica_leaves_nothing_for_long(app: ServeApp) -> None:
    replica = replica_process(app)
    state = Path(replica.environ()[ENV_STATE_DIR])
    (directory,) = directories(state)
    own = replica.children(recursive=True)
    shared = (state / directory / "shared-memory").read_text().splitlines()
    assert any(f"sglang_loads_{directory}_" in name for name in shared), "its name is in that of SGLang's"
    image = Path(f"/dev/shm/sgl_shm-{directory}_mm_{replica.pid}_1a2b3c4d")  # as if the engine had hung before it
    image.touch()

    replica.kill()
    _, alive = psutil.wait_procs(own, timeout=10)
    assert alive == []
    wait_until(lambda: answers(app.url), RESTART_SECONDS, lambda: app.describe("another replica serves"))
    assert len(directories(state)) == 1
    assert directories(state) != [directory]
    assert [name for name in (*shared, str(image)) if Path(name).exists()] == []


def said(app: ServeApp) -> str:
    """What a completion says; always the same from the same weights."""
    body = {"prompt": "You may reproduce", "max_tokens": 16, "temperature": 0, "ignore_eos": True}
    reply = httpx.post(f"{app.url}/v1/completions", json=body, timeout=60).raise_for_status()
    return str(reply.json()["choices"][0]["text"])


def negated(model: Path, target: Path) -> Path:
    """A copy of this model in which each weight has the other sign (safetensors: length, header, numbers)."""
    shutil.copytree(model, target)
    weights = target / "model.safetensors"
    raw = weights.read_bytes()
    begin = 8 + int.from_bytes(raw[:8], "little")
    weights.write_bytes(raw[:begin] + array("f", [-number for number in array("f", raw[begin:])]).tobytes())
    return target


def administer(app: ServeApp, route: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """What all replicas say to an admin request."""
    headers = {"Authorization": f"Bearer {ADMIN}"}
    reply = httpx.post(f"{app.url}/-/admin/{route}", json=body, headers=headers, timeout=120).raise_for_status()
    told: dict[str, Any] = reply.json()
    return told


def scheduler(app: ServeApp) -> psutil.Process:
    # A look at all processes may miss one, rarely; another engine would be here only after ten seconds.
    (process,) = until(lambda: app.find("sglang::scheduler"), 3, lambda: app.describe("the engine has gone"))
    return process


def drain_seconds(app: ServeApp) -> float:
    """How long Serve lets a replica that it stops in order finish its requests."""
    (deployment,) = app.serve_config["applications"][0]["deployments"]
    return float(deployment["graceful_shutdown_timeout_s"])


def replica_process(app: ServeApp) -> psutil.Process:
    (process,) = app.find("ServeReplica")
    return process


def replaced(app: ServeApp, before: psutil.Process) -> bool:
    found = app.find("sglang::scheduler")
    return bool(found) and before not in found and answers(app.url)


def directories(state: Path) -> list[str]:
    return sorted(path.name for path in state.iterdir() if path.is_dir())
