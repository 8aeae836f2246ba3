"""AITER in the ROCm image compiles kernels as the pod's user."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from unit.scripts import load

own_aiter = load("images/setup/own_aiter.py")


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where packages of a base lie, and what its build left in /tmp."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(own_aiter, "CONFIGS", tmp_path / "configs")
    monkeypatch.setattr(sys, "argv", ["own_aiter.py", "1000"])
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "tuned.csv").touch()
    return tmp_path


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[int, int]]:
    """Path -> its new user and group."""
    found: dict[str, tuple[int, int]] = {}
    monkeypatch.setattr(own_aiter.os, "chown", lambda path, user, group: found.update({str(path): (user, group)}))
    return found


def package(base: Path, *directories: str) -> Path:
    """An AITER that ends whoever imports it: it asks for a GPU."""
    for name in ("aiter", *directories):
        (base / name).mkdir(parents=True, exist_ok=True)
    (base / "aiter" / "__init__.py").write_text("raise RuntimeError('Get GPU arch from rocminfo failed')")
    return base / "aiter"


def test_directories_are_the_users_and_files_stay_the_bases(base: Path, given: dict[str, tuple[int, int]]) -> None:
    jit = package(base, "aiter/jit/build/module_quant", "aiter/ops") / "jit"
    (jit / "module_quant.so").touch()
    own_aiter.main()
    assert given == {str(one): (1000, 1000) for one in (jit, jit / "build", jit / "build" / "module_quant")}
    assert not (base / "configs").exists()


def test_a_base_without_aiter_is_left_alone(base: Path, given: dict[str, tuple[int, int]]) -> None:
    own_aiter.main()
    assert given == {}
    assert (base / "configs").exists()


def test_an_aiter_that_compiles_elsewhere_ends_the_build(base: Path, given: dict[str, tuple[int, int]]) -> None:
    package(base)
    with pytest.raises(SystemExit, match="compiles elsewhere"):
        own_aiter.main()
    assert given == {}
