"""Who may have a replica started by asking, and who may not."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from unit.held_head import ASLEEP, Head, run

from sglang_serve import args, hold
from sglang_serve import situation as situations
from sglang_serve.auth import rings_from


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(situations, "ANSWER_SECONDS", 0.005)


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


@pytest.mark.parametrize("keys", [True, False], ids=["keys", "no keys"])
def test_half_of_a_browsers_question_is_held_like_any_request(keys: bool) -> None:
    """Without an origin Starlette's middleware does not answer it."""
    assert not hold._is_preflight({"method": "OPTIONS", "headers": [(b"access-control-request-method", b"POST")]})

    async def work(head: Head, client: httpx.AsyncClient) -> None:
        half = {"access-control-request-method": "POST"}
        asked = asyncio.create_task(client.options("/v1/chat/completions", headers=half))
        await asyncio.sleep(0.02)
        head.now = 10
        assert ((await asked).status_code, head.proxy.left) == ((401, 0) if keys else (503, 1))

    run(work, replace(ASLEEP, require_keys=keys))


def test_no_question_gets_past_the_hold() -> None:
    """Whatever Starlette's middleware takes for one."""

    async def work(head: Head, client: httpx.AsyncClient) -> None:
        answer = asyncio.create_task(client.post("/v1/chat/completions", headers={"origin": "https://page.example"}))
        await asyncio.sleep(0.02)
        head.now = 10
        assert (await answer).status_code == 503

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hold, "_is_preflight", lambda _: True)
        run(work)


@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_whether_a_replica_runs_is_asked_anew_for_what_needs_no_key(method: str) -> None:
    async def work(head: Head, client: httpx.AsyncClient) -> None:
        head.proxy.up.set()
        with_key = {"Authorization": "Bearer any"}
        assert (await client.post("/v1/completions", json={}, headers=with_key)).status_code == 200
        head.situation = replace(ASLEEP, require_keys=True)  # hours later
        head.proxy.up.clear()
        assert (await client.request(method, "/healthz")).status_code == 401

    run(work, replace(ASLEEP, require_keys=True, running=1))


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
