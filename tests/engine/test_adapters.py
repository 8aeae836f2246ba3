"""LoRA adapters: addressed as models, changed in place, back after a kill, on each of two replicas; failing ones stop
nothing.

In this order, on one application.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from engine.apps import TINY_ENGINE, ServeApp, endpoint
from engine.clients import Stream
from engine.deployed import deploy, reports
from tiny_models import made_by
from waiting import wait_until

from sglang_operator.cli.local_process import import_path

SHIM = Path(__file__).parent / "lora_on_cpu"
RESTART_SECONDS = 400  # of a replica, on two busy cores
PROMPT = {"prompt": "You may reproduce", "max_tokens": 16, "temperature": 0, "ignore_eos": True}


@pytest.fixture(scope="module")
def adapters(engine_python: Path) -> Path:
    return made_by("tiny_adapters", engine_python)


@pytest.fixture(scope="module")
def app(engine_python: Path, tiny_model: Path, adapters: Path) -> Iterator[ServeApp]:
    engine = {"args": {**TINY_ENGINE, "max_total_tokens": 65_536, "lora_backend": "torch_native", "dtype": "float32"}}
    manifest = endpoint(tiny_model, engine=engine)
    manifest["spec"]["model"] |= {
        "lora": {"maxRank": 16, "maxLoaded": 5},
        "adapters": [row("sql", adapters / "sql"), row("legal", adapters / "legal"), *failing(adapters)],
    }
    paths = os.pathsep.join([str(SHIM), *import_path().values()])
    serve = ServeApp(manifest, engine_python, env={"PYTHONPATH": paths})
    (deployment,) = serve.serve_config["applications"][0]["deployments"]
    deployment["ray_actor_options"]["num_cpus"] = 1  # Ray is started for one replica, and two must find room
    with serve:
        yield serve


def row(name: str, path: Path) -> dict[str, str]:
    return {"name": name, "uri": f"file://{path}"}


def failing(adapters: Path) -> list[dict[str, str]]:
    return [row("absent", adapters / "absent"), row("foreign", adapters / "foreign")]


def said(app: ServeApp, **fields: Any) -> str:
    """What a completion says."""
    reply = httpx.post(f"{app.url}/v1/completions", json={"model": "tiny", **PROMPT, **fields}, timeout=60)
    assert reply.status_code == httpx.codes.OK, reply.text
    return str(reply.json()["choices"][0]["text"])


def states(app: ServeApp) -> dict[str, str]:
    """What the replica says of its adapters; {} where none answers."""
    reply = httpx.get(f"{app.url}/-/replica", timeout=30)
    return {one["name"]: one["state"] for one in reply.json().get("adapters", ())}


def change(app: ServeApp, python: Path, config_id: str, *adapters: dict[str, str]) -> None:
    deploy(app, python, user_config={"config_id": config_id, "adapters": list(adapters)})


def test_each_is_a_model_of_its_own(app: ServeApp) -> None:
    assert states(app) == {"sql": "Loaded", "legal": "Loaded", "absent": "Failed", "foreign": "Failed"}
    client = openai.OpenAI(base_url=f"{app.url}/v1", api_key="none")
    assert {one.id for one in client.models.list()} == {"tiny", "sql", "legal"}
    plain, sql, legal = (said(app, model=name) for name in ("tiny", "sql", "legal"))
    assert len({plain, sql, legal}) == 3
    assert (sql, legal) == (said(app, lora_path="sql"), said(app, lora_path="legal")), "as natively"
    assert sql == said(app, model="tiny:sql")
    chats = {name: chat(client, name) for name in ("tiny", "sql")}
    assert chats["tiny"] != chats["sql"]


def chat(client: openai.OpenAI, model: str) -> str | None:
    asked = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "hi"}], max_tokens=16, temperature=0
    )
    return asked.choices[0].message.content


def test_one_that_failed_says_why_and_is_never_answered_by_the_bare_model(app: ServeApp, adapters: Path) -> None:
    rows = httpx.get(f"{app.url}/-/replica", timeout=30).json()["adapters"]
    why = {one["name"]: one["message"] for one in rows}
    assert str(adapters / "absent") in why["absent"]
    assert "made for another model" in why["foreign"]
    reply = httpx.post(f"{app.url}/v1/completions", json={"model": "absent", **PROMPT}, timeout=60)
    assert reply.status_code == httpx.codes.BAD_REQUEST
    assert "absent" in reply.text


def test_they_come_and_go_under_a_running_stream(app: ServeApp, engine_python: Path, adapters: Path) -> None:
    legal = said(app, model="legal")
    stream = Stream(app.url, model="sql", max_tokens=30_000)
    (replica,) = app.find("ServeReplica")
    change(app, engine_python, "b", row("sql", adapters / "sql"), row("law", adapters / "legal"))
    wait_until(lambda: states(app) == {"sql": "Loaded", "law": "Loaded"}, 60, "the change has arrived")
    stream.require_more(30)
    assert said(app, model="law") == legal
    reply = httpx.post(f"{app.url}/v1/completions", json={"model": "tiny:legal", **PROMPT}, timeout=60)
    assert reply.status_code == httpx.codes.BAD_REQUEST, "what is removed does not come back for a request"
    stream.require_more(30)
    stream.leave()
    assert app.find("ServeReplica") == [replica], "not restarted for it"


def test_one_that_is_removed_under_a_running_stream_holds_up_no_new_one(
    app: ServeApp, engine_python: Path, adapters: Path
) -> None:
    legal = said(app, model="law")
    stream = Stream(app.url, model="sql", max_tokens=30_000)
    change(app, engine_python, "b2", row("law", adapters / "legal"), row("new", adapters / "legal"))
    wait_until(lambda: states(app) == {"law": "Loaded", "new": "Loaded"}, 60, "the new one is there")
    assert said(app, model="new") == legal
    reply = httpx.post(f"{app.url}/v1/completions", json={"model": "tiny:sql", **PROMPT}, timeout=60)
    assert reply.status_code == httpx.codes.BAD_REQUEST, "no new request for the removed one"
    stream.require_more(30)
    stream.leave()
    change(app, engine_python, "b3", row("sql", adapters / "sql"), row("law", adapters / "legal"))
    wait_until(lambda: states(app) == {"sql": "Loaded", "law": "Loaded"}, 60, "as before")


def test_another_address_under_the_same_name_takes_its_place(
    app: ServeApp, engine_python: Path, adapters: Path
) -> None:
    law = said(app, model="law")
    change(app, engine_python, "c", row("sql", adapters / "legal"), row("law", adapters / "legal"))
    wait_until(lambda: said(app, model="law") == law and said_or_refused(app, "sql") == law, 60, "sql is the other")
    wait_until(lambda: states(app) == {"sql": "Loaded", "law": "Loaded"}, 60, "and it is said")


def said_or_refused(app: ServeApp, name: str) -> str:
    """While it is exchanged, requests for an adapter are refused."""
    reply = httpx.post(f"{app.url}/v1/completions", json={"model": name, **PROMPT}, timeout=60)
    return str(reply.json()["choices"][0]["text"]) if reply.status_code == httpx.codes.OK else ""


def test_a_killed_replica_comes_back_with_all(app: ServeApp) -> None:
    (replica,) = app.find("ServeReplica")
    replica.kill()
    replica.wait(30)
    seen: list[dict[str, str]] = []

    def answers() -> bool:
        try:
            found = states(app)
        except (httpx.HTTPError, ValueError):
            return False
        seen.extend([found] if found else [])
        return bool(found)

    wait_until(answers, RESTART_SECONDS, "another replica answers")
    assert seen == [{"sql": "Loaded", "law": "Loaded"}], "it answers nobody before"


@pytest.mark.long
def test_each_of_two_replicas_has_all(app: ServeApp, engine_python: Path, adapters: Path) -> None:
    both = [row("sql", adapters / "sql"), row("law", adapters / "legal")]
    deploy(app, engine_python, replicas=2, user_config={"config_id": "d", "adapters": both})
    wait_until(lambda: states_of_each(app) == [{"sql": "Loaded", "law": "Loaded"}] * 2, 60, "on the new one too")
    law = {said(app, model="law") for _ in range(8)}
    added = [*both, row("new", adapters / "legal")]
    deploy(app, engine_python, replicas=2, user_config={"config_id": "e", "adapters": added})
    three = {"sql": "Loaded", "law": "Loaded", "new": "Loaded"}
    wait_until(lambda: states_of_each(app) == [three] * 2, 60, "a change reaches both")
    assert {said(app, model="new") for _ in range(8)} == law
    assert len(law) == 1


def states_of_each(app: ServeApp) -> list[dict[str, str]]:
    """What each replica that answers says of its adapters."""
    return [{one["name"]: one["state"] for one in report["adapters"]} for report in reports(app).values()]
