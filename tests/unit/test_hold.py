"""Requests while no replica runs: held, given up in time, reported, and never woken for by a check."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from sglang_operator.api.spec_scaling import Scaling
from sglang_serve import args, hold
from sglang_serve import situation as situations
from sglang_serve.args import LiveArgs, live_args, to_wire
from sglang_serve.auth import rings_from
from sglang_serve.hold import HoldMiddleware
from sglang_serve.keys import KeyRing
from sglang_serve.replies import send_json
from sglang_serve.situation import UNKNOWN, Situation, read_details

ASLEEP = Situation(running=0, target=0, hold_seconds=10, may_sleep=True)
AT_ZERO = {"target": 0, "wished_seconds": 0.0, "hold_seconds": 10}  # in what it reports


@dataclass
class Proxy:
    """Ray Serve's proxy as an app: it answers once a replica is up, and lets a client that leaves go."""

    up: asyncio.Event = field(default_factory=asyncio.Event)
    left: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        waiting = asyncio.ensure_future(self.up.wait())
        leaving = asyncio.ensure_future(self._disconnect(receive))
        await asyncio.wait({waiting, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if leaving.done():
            self.left += 1
            return await send_json(send, 499, {})
        leaving.cancel()
        return await send_json(send, 200, {})

    async def _disconnect(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass


class Head:
    """The middleware with a clock and a controller of the test's."""

    def __init__(self, situation: Situation = ASLEEP, rings: Sequence[KeyRing] = ()) -> None:
        self.now = 0.0
        self.situation: Situation | None = situation
        self.looked = asyncio.Event()
        self.is_silent = False  # Ray lets calls of a controller that starts anew wait for it
        self.proxy = Proxy()
        self.app = HoldMiddleware(self.proxy, self.look, lambda: False, lambda: self.now, rings)

    async def look(self) -> Situation | None:
        if self.is_silent:
            await asyncio.Event().wait()
        self.looked.set()
        return self.situation

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://head") as client:
            yield client


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(situations, "ANSWER_SECONDS", 0.005)


def run(
    work: Callable[[Head, httpx.AsyncClient], Coroutine[Any, Any, None]],
    situation: Situation = ASLEEP,
    rings: Sequence[KeyRing] = (),
) -> None:
    async def main() -> None:
        head = Head(situation, rings)
        async with head.client() as client:
            await asyncio.wait_for(work(head, client), 5)

    asyncio.run(main())


async def ask(head: Head, client: httpx.AsyncClient, content: bytes = b"{}") -> asyncio.Task[httpx.Response]:
    """A request that has got as far as it gets by now."""
    asked = asyncio.create_task(client.post("/v1/chat/completions", content=content))
    await asyncio.sleep(0.02)
    assert not asked.done()
    return asked


def test_a_held_request_is_answered_when_a_replica_is_up() -> None:
    async def work(head: Head, client: httpx.AsyncClient) -> None:
        asked = await ask(head, client)
        head.now = 9
        await asyncio.sleep(0.02)
        head.proxy.up.set()
        assert (await asked).status_code == 200

    run(work)


def test_one_that_waits_too_long_gets_503_and_leaves_the_queue() -> None:
    async def work(head: Head, client: httpx.AsyncClient) -> None:
        asked = await ask(head, client)
        head.now = 10
        answer = await asked
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
        assert answer.json()["code"] == 503
        assert "spec.scaling.holdSeconds" in answer.json()["message"]
        assert head.proxy.left == 1

    run(work)


@pytest.mark.parametrize(
    "situation",
    [
        replace(ASLEEP, running=1),
        replace(ASLEEP, hold_seconds=None),
    ],
    ids=["a replica works on it", "no limit"],
)
def test_it_goes_on_waiting(situation: Situation) -> None:
    async def work(head: Head, client: httpx.AsyncClient) -> None:
        asked = await ask(head, client)
        head.now = 1000
        await asyncio.sleep(0.02)
        assert not asked.done()
        head.proxy.up.set()
        assert (await asked).status_code == 200

    run(work, situation)


def test_it_waits_for_nobody_when_the_controller_has_stopped_to_answer() -> None:
    async def work(head: Head, client: httpx.AsyncClient) -> None:
        asked = await ask(head, client)
        head.is_silent = True
        head.now = 9.9
        await asyncio.sleep(0.03)
        assert not asked.done()
        head.now = 10
        assert (await asked).status_code == 503
        assert (await client.get("/-/replica")).json()["target"] is None

    run(work)


def test_a_replica_is_believed_to_run_as_long_as_the_controller_is_not_silent_for_too_long() -> None:
    async def work(head: Head, client: httpx.AsyncClient) -> None:
        asked = await ask(head, client)
        head.now = 15
        head.looked.clear()
        await head.looked.wait()
        head.is_silent = True
        head.now = 24
        await asyncio.sleep(0.03)
        assert not asked.done()
        head.now = 25
        assert (await asked).status_code == 503

    run(work, replace(ASLEEP, running=1))


@pytest.mark.parametrize("is_silent", [True, False], ids=["no answer", "our deployment is not there yet"])
def test_before_anything_is_known_the_default_counts(is_silent: bool) -> None:
    async def work(head: Head, client: httpx.AsyncClient) -> None:
        head.is_silent, head.situation = is_silent, None
        asked = await ask(head, client)
        head.now = 599
        await asyncio.sleep(0.03)
        assert not asked.done()
        head.now = 600
        assert (await asked).status_code == 503

    run(work)


def test_no_more_than_so_many_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold, "MOST_HELD", 2)

    async def work(head: Head, client: httpx.AsyncClient) -> None:
        held = [await ask(head, client) for _ in range(2)]
        refused = await client.post("/v1/chat/completions", json={})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "30")
        assert refused.json()["type"] == "Service Unavailable"
        head.proxy.up.set()
        assert [(await one).status_code for one in held] == [200, 200]
        assert (await client.post("/v1/chat/completions", json={})).status_code == 200

    run(work)


def test_bodies_together_are_no_larger_than_so_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold, "MOST_HELD_BYTES", 1500)

    async def work(head: Head, client: httpx.AsyncClient) -> None:
        held = await ask(head, client, b"x" * 1000)
        refused = await client.post("/v1/chat/completions", content=b"x" * 501)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "30")
        assert "too large together" in refused.json()["message"]
        assert head.proxy.left == 1, "out of the queue"
        another = await ask(head, client, b"x" * 500)
        head.proxy.up.set()
        assert ((await held).status_code, (await another).status_code) == (200, 200)
        head.proxy.up.clear()
        assert not (await ask(head, client, b"x" * 1000)).done(), "the room is free again"
        head.proxy.up.set()

    run(work, replace(ASLEEP, max_body_bytes=1000))


def test_a_body_counts_until_its_answer_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica has it then, and the rest of a long stream takes no room."""
    monkeypatch.setattr(hold, "MOST_HELD_BYTES", 1000)
    over = asyncio.Event()

    async def stream(_: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await over.wait()
        await send({"type": "http.response.body", "body": b""})

    async def work(head: Head, client: httpx.AsyncClient) -> None:
        asked = [await ask(head, client, b"x" * 1000) for _ in range(2)]
        over.set()
        assert [(await one).status_code for one in asked] == [200, 200]

    monkeypatch.setattr(Proxy, "__call__", lambda _, *asgi: stream(*asgi))
    run(work, replace(ASLEEP, max_body_bytes=1000))


def test_a_body_of_the_largest_size_finds_room_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold, "MOST_HELD_BYTES", 10)

    async def work(head: Head, client: httpx.AsyncClient) -> None:
        asked = await ask(head, client, b"x" * 1000)
        head.proxy.up.set()
        assert (await asked).status_code == 200

    run(work, replace(ASLEEP, max_body_bytes=1000))


def test_who_brings_no_key_where_one_is_needed_wakes_nobody() -> None:
    async def work(head: Head, client: httpx.AsyncClient) -> None:
        refused = await client.post("/v1/chat/completions", json={})
        assert (refused.status_code, refused.json()) == (401, {"error": "Unauthorized"})
        assert (await client.get("/health")).status_code == 200
        with_key = {"Authorization": "Bearer any"}
        head.proxy.up.set()
        assert (await client.post("/v1/chat/completions", json={}, headers=with_key)).status_code == 200
        assert (await client.options("/v1/chat/completions")).status_code == 401

    run(work, replace(ASLEEP, require_keys=True))


@pytest.mark.parametrize(("running", "of"), [(0, "head"), (1, "replica")])
def test_a_check_of_the_engine_without_a_key_wakes_nobody(running: int, of: str) -> None:
    """Natively it needs no key: once a replica runs, it is let through."""

    async def work(head: Head, client: httpx.AsyncClient) -> None:
        head.proxy.up.set()
        answer = await client.get("/health_generate")
        assert (answer.status_code, answer.json()) == (200, {"replicas": 0} if of == "head" else {})

    run(work, replace(ASLEEP, require_keys=True, running=running))


def test_a_browsers_question_is_answered_as_by_a_replica_and_wakes_nobody() -> None:
    async def work(head: Head, client: httpx.AsyncClient) -> None:
        asks = {"origin": "https://page.example", "access-control-request-method": "POST"}
        wants = {"access-control-request-headers": "authorization"}
        answer = await client.options("/v1/chat/completions", headers=asks | wants)
        assert (answer.status_code, answer.headers["access-control-allow-headers"]) == (200, "authorization")
        assert answer.headers["access-control-allow-origin"] == "https://page.example"

    run(work, replace(ASLEEP, require_keys=True))


def test_a_wrong_key_wakes_nobody_where_the_head_knows_the_keys(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "team").write_text("right")
    (tmp_path / "admin").write_text("admin")
    env = {args.ENV_KEYS_DIR: str(tmp_path / "keys"), args.ENV_ADMIN_KEY_FILE: str(tmp_path / "admin")}

    async def work(head: Head, client: httpx.AsyncClient) -> None:
        head.proxy.up.set()
        said = {
            key: (await client.post("/flush_cache", headers={"Authorization": f"Bearer {key}"})).status_code
            for key in ("wrong", "right", "admin")
        }
        assert said == {"wrong": 401, "right": 200, "admin": 200}

    run(work, replace(ASLEEP, require_keys=True), rings_from(env))


@pytest.mark.parametrize("path", ["/-/x", "/-/healthz/x", "/-/healthz\n"])
def test_what_only_looks_like_rays_own_is_held_like_the_rest(path: str) -> None:
    """Ray's proxy would queue it without key and bound, and wake a replica for it."""

    async def work(head: Head, client: httpx.AsyncClient) -> None:
        assert (await client.post(path.replace("\n", "%0A"))).status_code == 401
        assert head.proxy.left == 0

    run(work, replace(ASLEEP, require_keys=True))


def test_there_is_nothing_to_administer_at_zero() -> None:
    async def work(head: Head, client: httpx.AsyncClient) -> None:
        answer = await client.post("/-/admin/flush_cache")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
        assert head.proxy.left == 0

    run(work)


def test_it_reports_since_when_a_replica_is_wanted() -> None:
    """Its pod may never come: then the operator must not call it waking for ever."""

    async def work(head: Head, client: httpx.AsyncClient) -> None:
        async def wished_at(now: float, situation: Situation) -> float:
            head.now, head.situation = now, situation
            return float((await client.get("/-/replica")).json()["wished_seconds"])

        wanted = replace(ASLEEP, target=1)
        assert await wished_at(3, wanted) == 0, "not known from before"
        assert await wished_at(8, wanted) == 5
        assert await wished_at(9, replace(wanted, running=1)) == 0
        assert await wished_at(10, wanted) == 0
        assert await wished_at(12, wanted) == 2
        assert await wished_at(13, ASLEEP) == 0, "nobody asks any more"

    run(work)


def test_it_reports_to_the_operator_without_waking_anybody() -> None:
    async def work(head: Head, client: httpx.AsyncClient) -> None:
        head.now = 3
        assert (await client.get("/-/replica")).json() == {"held": 0, "in_flight": 0, "idle_seconds": 3.0} | AT_ZERO
        asked = await ask(head, client)
        said = await client.get("/-/replica?generate=1")
        assert (said.status_code, said.json()) == (503, {"held": 1, "in_flight": 1, "idle_seconds": 0.0} | AT_ZERO)
        head.proxy.up.set()
        await asked
        assert (await client.get("/-/replica")).json()["in_flight"] == 0

    run(work)


@pytest.mark.parametrize("path", ["/health", "/metrics", "/ready"])
def test_checks_are_answered_at_once(path: str) -> None:
    async def asleep(head: Head, client: httpx.AsyncClient) -> None:
        assert (await client.get(path)).status_code == 200

    async def broken(head: Head, client: httpx.AsyncClient) -> None:
        assert (await client.get(path)).status_code == 503

    run(asleep)
    run(broken, replace(ASLEEP, may_sleep=False))


@pytest.mark.parametrize("length", [True, False], ids=["declared", "streamed"])
def test_what_is_too_large_is_not_held(length: bool) -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * 500

    async def work(head: Head, client: httpx.AsyncClient) -> None:
        first = await ask(head, client)  # from the first look on, the endpoint's own limit counts
        content = b"x" * 1500 if length else body()
        assert (await client.post("/v1/completions", content=content)).status_code == 413
        head.proxy.up.set()
        await first

    run(work, replace(ASLEEP, max_body_bytes=1024))


@pytest.mark.parametrize(
    ("extensions", "sent_first"),
    [({}, "websocket.close"), ({"websocket.http.response": {}}, "websocket.http.response.start")],
)
def test_a_websocket_is_refused_before_it_is_accepted(extensions: dict[str, Any], sent_first: str) -> None:
    sent: list[Message] = []

    async def main() -> None:
        head = Head()

        async def receive() -> Message:
            await asyncio.sleep(0.001)
            return {"type": "websocket.connect"}

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {"type": "websocket", "path": "/v1/realtime", "extensions": extensions}
        task = asyncio.create_task(head.app(scope, receive, send))
        await asyncio.sleep(0.01)
        head.now = 10
        await asyncio.wait_for(task, 5)

    asyncio.run(main())
    assert sent[0]["type"] == sent_first
    assert sent[0].get("code", 1013) == 1013
    assert sent[0].get("status", 503) == 503


def test_in_a_replica_it_does_nothing() -> None:
    async def main() -> None:
        proxy = Proxy()
        proxy.up.set()
        app = HoldMiddleware(proxy, is_replica=lambda: True)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://replica") as client:
            assert (await client.get("/-/replica")).status_code == 200

    asyncio.run(main())


def test_the_controllers_details_are_read() -> None:
    config = {"autoscaling_config": {"min_replicas": 0}, "user_config": {"hold_seconds": 7}}
    replicas = [{"state": "RUNNING"}, {"state": "STARTING"}, {"state": "STOPPING"}]
    found = {"replicas": replicas, "target_num_replicas": 2, "deployment_config": config}
    application: dict[str, Any] = {"deployments": {"SGLangServer": found}}
    expected = Situation(running=1, target=2, hold_seconds=7, may_sleep=True)
    assert read_details({"applications": {"a": application}}) == expected
    with_keys = {**application, "deployed_app_config": {"args": {"require_keys": True}}}
    assert read_details({"applications": {"a": with_keys}}) == replace(expected, require_keys=True)
    fixed = {**found, "deployment_config": {"num_replicas": 1}}
    assert read_details({"applications": {"a": {"deployments": {"SGLangServer": fixed}}}}) == Situation(
        1, 2, None, False
    )
    assert read_details({"applications": {}}) is None


@pytest.mark.parametrize("state", ["UPDATING", "RECOVERING", "PENDING_MIGRATION"])
def test_a_replica_that_goes_on_with_what_it_has_counts(state: str) -> None:
    found = {"replicas": [{"state": state}], "target_num_replicas": 1, "deployment_config": {}}
    situation = read_details({"applications": {"a": {"deployments": {"SGLangServer": found}}}})
    assert situation is not None
    assert situation.running == 1


def test_what_counts_before_anything_is_known_is_the_default_of_the_api() -> None:
    assert UNKNOWN.hold_seconds == Scaling(min=0, max=1).hold_seconds


def test_images_from_before_the_field_do_not_see_it() -> None:
    assert "hold_seconds" not in to_wire(LiveArgs())
    assert live_args(to_wire(LiveArgs(hold_seconds=5))).hold_seconds == 5
