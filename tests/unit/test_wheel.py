"""The wheel that `pipx install` and `uv tool install` make has all that the plugin needs without a checkout."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[2]
PACKAGES = {"sglang_operator": "operator", "sglang_serve": "images"}
MAIN = "import sys; from sglang_operator.cli.main import main; print(sys.modules[main.__module__].__file__); main()"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    built = next(WheelBuilder(str(ROOT)).build(directory=str(tmp_path_factory.mktemp("wheel")), versions=["standard"]))
    return zipfile.ZipFile(built)


def test_the_programs_are_in_it(wheel: zipfile.ZipFile) -> None:
    (name,) = (one for one in wheel.namelist() if one.endswith("/entry_points.txt"))
    found = configparser.ConfigParser()
    found.read_string(wheel.read(name).decode())
    assert set(found["console_scripts"]) == {"kubectl-sglang", "kubectl_complete-sglang", "sglang-operator"}


def test_every_file_of_the_packages_is_in_it(wheel: zipfile.ZipFile) -> None:
    for package, parent in PACKAGES.items():
        files = (path for path in (ROOT / parent / package).rglob("*") if path.is_file() and path.suffix != ".pyc")
        wanted = {str(path.relative_to(ROOT / parent)) for path in files}
        assert wanted
        assert not wanted - set(wheel.namelist())


def test_it_renders_without_the_checkout(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    command = [sys.executable, "-c", MAIN, "render", "-f", str(ROOT / "examples/smollm2.yaml")]
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=env, check=True, capture_output=True, text=True)
    where, _, objects = done.stdout.partition("\n")
    assert Path(where).is_relative_to(tmp_path)
    assert "kind: RayService" in objects
