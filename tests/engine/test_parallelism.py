"""Several ranks of one replica say what transformers says with one."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from engine.apps import TINY_ENGINE, ServeApp, endpoint
from engine.transformers_says import reference

ENGINE = {"args": {**TINY_ENGINE, "dtype": "float32"}}
PROMPTS = ["License", "You may reproduce and distribute", "Copyright owner"]
TOKENS = 24


@pytest.mark.parametrize(
    "axis",
    ["tensor", pytest.param("pipeline", marks=pytest.mark.long), pytest.param("data", marks=pytest.mark.long)],
)
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
