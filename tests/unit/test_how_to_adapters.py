"""docs/how-to/adapters.md: its YAML is that of the example, its numbers are those of the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import yaml

from sglang_operator.api.engine_args import LORA_OWNED
from sglang_serve import adapters
from sglang_serve.engine_args import LORAS_PER_BATCH

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/how-to/adapters.md").read_text()


def test_the_yaml_is_that_of_the_example() -> None:
    ((path, text),) = re.findall(r"\]\(\.\./\.\./(examples/[\w-]+\.yaml)\):\n\n```yaml\n(.*?)```", PAGE, re.DOTALL)
    model, example = yaml.safe_load(text)["spec"]["model"], yaml.safe_load((ROOT / path).read_text())["spec"]["model"]
    assert {name: example[name] for name in model} == model


def test_page_and_example_create_every_secret_that_is_named() -> None:
    example = (ROOT / "examples/adapters.yaml").read_text()
    model = yaml.safe_load(example)["spec"]["model"]
    for text in (PAGE, example):
        created = set(re.findall(r"kubectl create secret generic (\w+) ", text))
        assert created == {model["tokenSecret"]["name"], model["storageSecret"]["name"]}


def test_it_names_every_state_and_every_argument() -> None:
    assert all(f"\n| {state} |" in PAGE for state in get_args(adapters.State))
    assert all(f"`{name}`" in PAGE for name in LORA_OWNED)


def test_numbers_are_those_of_the_code() -> None:
    assert f"{adapters.FIRST_SECONDS:.0f} seconds at most" in PAGE
    assert adapters.RETRY_SECONDS == 60, "each minute"
    assert LORAS_PER_BATCH == 8, "seven, and the bare model"
