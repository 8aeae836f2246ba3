"""What a head without a replica tells: the operator, checks, websockets; and what it knows of the controller."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import httpx
import pytest
from starlette.types import Message
from unit.held_head import ASLEEP, AT_ZERO, Head, Proxy, ask, run

from sglang_operator.api.spec_scaling import Scaling
from sglang_serve import hold
from sglang_serve import situation as situations
from sglang_serve.args import LiveArgs, live_args, to_wire
from sglang_serve.hold import HoldMiddleware
from sglang_serve.situation import UNKNOWN, Situation, read_details


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(situations, "ANSWER_SECONDS", 0.005)


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
    expected = Situation(running=1, target=2, hold_seconds=7, may_sleep=True, stopping=1)
    assert read_details({"applications": {"a": application}}) == expected
    with_keys = {**application, "deployed_app_config": {"args": {"require_keys": True}}}
    assert read_details({"applications": {"a": with_keys}}) == replace(expected, require_keys=True)
    fixed = {**found, "deployment_config": {"autoscaling_config": {"min_replicas": 1, "max_replicas": 1}}}
    assert read_details({"applications": {"a": {"deployments": {"SGLangServer": fixed}}}}) == Situation(
        1, 2, None, False, stopping=1
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
