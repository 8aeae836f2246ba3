"""Random models of half a megabyte, made once per version of their script and kept beside the engine environment."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).parent
LICENSE = HERE.parent / "LICENSE"  # what their tokenizers are trained on
SCRIPTS = HERE / "engine" / "models"


def cache_dir() -> Path:
    """Where this machine keeps what is made or fetched once."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sglang-operator"


def find_engine_python() -> Path:
    """The interpreter that has torch, ray and sglang; fails the test, with the remedy, where there is none."""
    python = Path(os.environ.get("SGLANG_ENGINE_PYTHON", cache_dir() / "engine" / "bin" / "python"))
    if not python.is_file():
        pytest.fail(f"no engine environment at {python}: run `make engine` or set SGLANG_ENGINE_PYTHON")
    return python


def made_by(script: str, python: Path) -> Path:
    """The directory of the model that `tests/engine/models/<script>.py` makes."""
    path = SCRIPTS / f"{script}.py"
    sources = [*sorted(SCRIPTS.glob("*.py")), LICENSE]  # they use one another
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    target = cache_dir() / "test-models" / f"{script.replace('_', '-')}-{digest}"
    if not target.is_dir():
        make(python, path, target)
    return target


def make(python: Path, script: Path, target: Path) -> None:
    """Into a neighbour, then renamed: an interrupted run is never taken for a model."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=target.parent) as scratch:
        fresh = Path(scratch) / "model"
        done = subprocess.run([python, script, fresh], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.fail(f"{script.name} failed:\n{done.stderr[-2000:]}")
        fresh.rename(target)
