"""What every engine test needs: the engine environment's Python and models. What is missing fails with its remedy."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).parent
LICENSE = HERE.parents[1] / "LICENSE"  # what the tiny model's tokenizer is trained on
SECONDS_PER_TEST = 300  # an engine start alone takes up to a minute on two cores


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything below this directory is an engine test."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.engine)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(SECONDS_PER_TEST))


def cache_dir() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sglang-operator"


@pytest.fixture(scope="session")
def engine_python() -> Path:
    """The interpreter that has torch, ray and sglang."""
    python = Path(os.environ.get("SGLANG_ENGINE_PYTHON", cache_dir() / "engine" / "bin" / "python"))
    if not python.is_file():
        pytest.fail(f"no engine environment at {python}: run `make engine` or set SGLANG_ENGINE_PYTHON")
    return python


@pytest.fixture(scope="session")
def tiny_model(engine_python: Path) -> Path:
    """A random two-layer Qwen2 (embeds too), made once per version of its script."""
    script = HERE / "models" / "tiny_qwen2.py"
    digest = hashlib.sha256(script.read_bytes() + LICENSE.read_bytes()).hexdigest()[:12]
    target = cache_dir() / "test-models" / f"tiny-qwen2-{digest}"
    if not target.is_dir():
        make_model(engine_python, script, target)
    return target


def make_model(python: Path, script: Path, target: Path) -> None:
    """Into a neighbour, then renamed: an interrupted run is never taken for a model."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=target.parent) as scratch:
        fresh = Path(scratch) / "model"
        done = subprocess.run([python, script, fresh], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.fail(f"{script.name} failed:\n{done.stderr[-2000:]}")
        fresh.rename(target)


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """SmolLM2-135M-Instruct: small, real, knows the capital of France."""
    model = cache_dir() / "models" / "HuggingFaceTB" / "SmolLM2-135M-Instruct"
    if not (model / "model.safetensors").is_file():
        pytest.fail(f"no model at {model}: run `make model`")
    return model
