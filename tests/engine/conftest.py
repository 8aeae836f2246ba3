"""What every engine test needs: the engine environment's Python and models. What is missing fails with its remedy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from engine.hub_machine import Machine, machine_at_a_hub
from engine.hub_server import Hub
from tiny_models import cache_dir, find_engine_python, made_by

HERE = Path(__file__).parent
SECONDS_PER_TEST = 900  # several engine starts of a minute each on two idle cores, of three on busy ones


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything below this directory is an engine test."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.engine)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(SECONDS_PER_TEST))


@pytest.fixture(scope="session")
def engine_python() -> Path:
    """The interpreter that has torch, ray and sglang."""
    return find_engine_python()


@pytest.fixture(scope="session")
def tiny_model(engine_python: Path) -> Path:
    """A random two-layer Qwen2 (embeds too)."""
    return made_by("tiny_qwen2", engine_python)


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """SmolLM2-135M-Instruct: small, real, knows the capital of France."""
    model = cache_dir() / "models" / "HuggingFaceTB" / "SmolLM2-135M-Instruct"
    if not (model / "model.safetensors").is_file():
        pytest.fail(f"no model at {model}: run `make model`")
    return model


@pytest.fixture
def machine(engine_python: Path, tmp_path: Path) -> Iterator[Machine]:
    """One that downloads from a hub of its own."""
    with machine_at_a_hub(engine_python, tmp_path / "home") as one:
        yield one


@pytest.fixture
def hub(machine: Machine) -> Hub:
    """That of `machine`."""
    return machine.hub
