"""Several ranks of one replica say what one rank says."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from engine.apps import TINY_ENGINE, ServeApp, endpoint

ENGINE = {"args": {**TINY_ENGINE, "dtype": "float32"}}
PROMPTS = ["License", "You may reproduce and distribute", "Copyright owner"]
pytestmark = pytest.mark.timeout(600)


def answers(app: ServeApp) -> list[str]:
    """What it goes on with, greedily."""
    body = {"model": "tiny", "prompt": PROMPTS, "max_tokens": 24, "temperature": 0, "ignore_eos": True}
    reply = httpx.post(f"{app.url}/v1/completions", json=body, timeout=120)
    assert reply.status_code == 200, reply.text
    return [choice["text"] for choice in reply.json()["choices"]]


@pytest.fixture(scope="module")
def expected(tiny_model: Path, engine_python: Path) -> list[str]:
    with ServeApp(endpoint(tiny_model, engine=ENGINE), engine_python) as app:
        return answers(app)


@pytest.mark.parametrize("axis", ["tensor", "pipeline", "data"])
def test_two_ranks_answer_as_one(axis: str, expected: list[str], tiny_model: Path, engine_python: Path) -> None:
    two = {"accelerator": {"vendor": "cpu", "count": 2}, "parallelism": {axis: 2}}
    with ServeApp(endpoint(tiny_model, engine=ENGINE, **two), engine_python) as app:
        assert len(app.find("sglang::scheduler")) == 2
        assert answers(app) == expected
