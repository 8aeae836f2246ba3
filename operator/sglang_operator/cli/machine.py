"""What this machine has: engine environment, accelerators, directories. What is missing comes with its remedy."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from sglang_operator.cli.local_process import import_path
from sglang_operator.cli.local_spec import NotLocal

ENV_PYTHON = "SGLANG_ENGINE_PYTHON"
NEEDED = ("ray", "sglang", "sglang_serve")
_FIND = "import importlib.util as u, sys; print(*[n for n in sys.argv[1:] if u.find_spec(n) is None])"
# Device files: they are there when a driver is, whatever tools are installed.
DEVICES = {"nvidia": (Path("/dev"), "nvidia[0-9]*"), "amd": (Path("/sys/class/kfd/kfd/topology/nodes"), "*/gpu_id")}


def cache_dir() -> Path:
    """Where `make` keeps environments and models."""
    return _xdg("XDG_CACHE_HOME", ".cache")


def log_file(endpoint: str, port: int) -> Path:
    """Where the log of a run lies; the next run of the same endpoint and port replaces it."""
    return _xdg("XDG_STATE_HOME", ".local/state") / f"{endpoint}-{port}.log"


def _xdg(variable: str, default: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / default) / "sglang-operator"


def engine_python(given: Path | None) -> Path:
    """The interpreter of the engine environment; raises NotLocal unless it can import all that serving needs."""
    # Absolute: a bare name would be looked for in PATH.
    python = (given or Path(os.environ.get(ENV_PYTHON) or cache_dir() / "engine" / "bin" / "python")).absolute()
    if not python.is_file() or not os.access(python, os.X_OK):
        raise NotLocal(f"no engine environment: {python} is no Python interpreter", _ENGINE_REMEDY)
    found = subprocess.run(
        [python, "-c", _FIND, *NEEDED], capture_output=True, text=True, check=False, env={**os.environ, **import_path()}
    )
    if found.returncode or found.stdout.strip():
        missing = ", ".join(found.stdout.split()) or "something"
        raise NotLocal(f"the engine environment lacks {missing}: {python}", _ENGINE_REMEDY)
    return python


_ENGINE_REMEDY = "install it with `make engine` in a checkout, or name the Python of another one: --python PATH"


def require_accelerators(vendor: str, needed: int) -> None:
    """Raise NotLocal if this machine has fewer accelerators of `vendor` than `needed` by all replicas together."""
    found = len(list(accelerators(vendor))) if vendor in DEVICES else needed
    if found < needed:
        raise NotLocal(
            f"spec.accelerator: {needed} of vendor {vendor!r} needed, this machine has {found}",
            "set spec.accelerator.vendor: cpu (for small models), or run it on a machine with the accelerators",
        )


def accelerators(vendor: str) -> Iterable[Path]:
    """Device entries of `vendor`; AMD's list names CPUs too, with the id 0."""
    root, pattern = DEVICES[vendor]
    return (path for path in root.glob(pattern) if vendor != "amd" or path.read_text().strip() != "0")


def default_mirror() -> Path | None:
    """The mirror that `make model` fills, if it is there."""
    mirror = cache_dir() / "models"
    return mirror if mirror.is_dir() else None
