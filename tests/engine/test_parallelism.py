"""Several ranks of one replica say what transformers says with one."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest
from engine.apps import START_SECONDS, TINY_ENGINE, ServeApp, endpoint
from engine.clients import answers
from engine.transformers_says import reference
from waiting import wait_until

from sglang_serve.health import PROBE_SECONDS

ENGINE = {"args": {**TINY_ENGINE, "dtype": "float32"}}
PROMPTS = ["License", "You may reproduce and distribute", "Copyright owner"]
TOKENS = 24


@pytest.mark.long  # test_several_nodes.py has two ranks, too
@pytest.mark.parametrize("axis", ["tensor", "pipeline", "data"])
def test_two_ranks_answer_as_one(axis: str, tiny_model: Path, engine_python: Path) -> None:
    expected = reference(engine_python, "complete", tiny_model, prompts=PROMPTS, tokens=TOKENS)
    accelerator = {"vendor": "cpu", "count": 2}
    made = endpoint(tiny_model, engine=ENGINE, accelerator=accelerator, parallelism={axis: 2})
    body = {"model": "tiny", "prompt": PROMPTS, "max_tokens": TOKENS, "temperature": 0, "ignore_eos": True}
    with ServeApp(made, engine_python) as app:
        assert len(app.find("sglang::scheduler")) == 2
        reply = httpx.post(f"{app.url}/v1/completions", json=body, timeout=120)
    assert reply.status_code == 200, reply.text
    assert [choice["text"] for choice in reply.json()["choices"]] == expected


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_a_hung_rank_is_replaced_though_the_other_answers(tiny_model: Path, engine_python: Path) -> None:
    """Data-parallel ranks do not wait for one another: half of all requests would hang, and the engine be heard."""
    accelerator = {"vendor": "cpu", "count": 2}
    app = ServeApp(endpoint(tiny_model, engine=ENGINE, accelerator=accelerator, parallelism={"data": 2}), engine_python)
    (deployment,) = app.serve_config["applications"][0]["deployments"]
    deployment["health_check_period_s"] = 1
    with app:
        ranks = app.find("sglang::scheduler")
        assert len(ranks) == 2
        time.sleep(PROBE_SECONDS + 5)  # a rank with nothing to do is no hung one
        assert app.find("sglang::scheduler") == ranks
        ranks[1].suspend()
        wait_until(lambda: not ranks[0].is_running(), 3 * (PROBE_SECONDS + 10), "the replica ends with its hung rank")
        wait_until(lambda: answers(app.url), START_SECONDS, lambda: app.describe("another replica serves"))
        assert len(app.find("sglang::scheduler")) == 2
