"""hack/engine_env.py with a uv that installs nothing: what it makes, keeps, and leaves where it is interrupted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from unit.scripts import load

SCRIPT = Path(__file__).parents[2] / "hack" / "engine_env.py"
# `uv venv … DIRECTORY` makes a Python that knows one answer; `uv pip install` obeys $AT_INSTALL.
UV = """\
#!/bin/bash
echo "$1" >> "$(dirname "$0")/calls"
if [ "$1" = venv ]; then
  mkdir -p "${@: -1}/bin" "${@: -1}/site"
  printf '#!/bin/bash\\necho "%s/site"\\n' "${@: -1}" > "${@: -1}/bin/python"
  chmod +x "${@: -1}/bin/python"
else
  eval "$AT_INSTALL"
fi
"""


class Machine:
    """A home with a cache and this uv."""

    def __init__(self, home: Path) -> None:
        self.uv = home / "uv"
        self.uv.write_text(UV)
        self.uv.chmod(0o755)
        self.cache = home / "cache" / "sglang-operator"
        self._home = home

    def run(self, *arguments: str, at_install: str = "") -> subprocess.CompletedProcess[str]:
        environment = {"XDG_CACHE_HOME": str(self._home / "cache"), "AT_INSTALL": at_install, "PATH": "/usr/bin:/bin"}
        command = [sys.executable, str(SCRIPT), "--uv", str(self.uv), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def calls(self) -> list[str]:
        return (self._home / "calls").read_text().split()

    def target(self) -> Path:
        """Where the environment of this checkout belongs."""
        return Path(self.run("--where").stdout.strip()).parents[1]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def module() -> ModuleType:
    return load("hack/engine_env.py")


def test_the_second_call_installs_nothing(machine: Machine) -> None:
    first, second = machine.run(), machine.run()
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert machine.calls() == ["venv", "pip"]
    assert second.stdout == f"{machine.target()}/bin/python\n", "says where it is, and nothing else"
    assert (machine.cache / "engine").resolve() == machine.target(), "where the CLI looks"
    assert (machine.target() / "site" / "sgl_kernel").is_dir(), "the stub is in it"


def test_where_installs_nothing(machine: Machine) -> None:
    assert machine.target().parent == machine.cache
    assert not machine.cache.exists()


@pytest.mark.parametrize("at_install", ["exit 1", "kill -KILL $PPID", "kill -INT $PPID; exit 1"])
def test_an_interrupted_install_leaves_no_environment(machine: Machine, at_install: str) -> None:
    assert machine.run(at_install=at_install).returncode != 0
    assert not machine.target().exists()
    assert not (machine.cache / "engine").exists()
    assert machine.run().returncode == 0, "the next call begins anew"
    assert (machine.target() / "bin" / "python").is_file()


def test_a_changed_lock_gives_another_directory(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = module.environment()
    lock = tmp_path / "cpu.txt"
    lock.write_text(module.LOCK.read_text() + "another==1.0\n")
    monkeypatch.setattr(module, "LOCK", lock)
    assert module.environment() != before


def test_too_little_disk_is_said_before_anything_is_installed(
    module: ModuleType, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.cache.mkdir(parents=True)
    monkeypatch.setattr(module, "NEEDED_GIB", 10**6)
    with pytest.raises(SystemExit, match=r"needs 1000000 GiB in .*, \d+\.\d are free: make room or set XDG_CACHE_HOME"):
        module.install(str(machine.uv), machine.cache / "engine-new")
    assert list(machine.cache.iterdir()) == []
