"""Makes the engine environment (torch, ray, sglang on CPU), the second and heavy one, and keeps it for the next time.

    python3 hack/engine_env.py            install if absent, print the interpreter's path
    python3 hack/engine_env.py --where    print the path only

It lies outside the checkout, named by what is installed in it, so that every clone of this machine shares it and a
changed lock makes a new one. Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "images" / "requirements" / "cpu.txt"
STUB = ROOT / "images" / "cpu" / "sgl_kernel"
PYTHON = "3.11"  # what cpu.txt was locked for
NEEDED_GIB = 7


def cache_dir() -> Path:
    """Where environments and models are kept; XDG_CACHE_HOME moves it."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sglang-operator"


def environment() -> Path:
    """The directory of the environment that belongs to this checkout's lock and stub."""
    digest = hashlib.sha256()
    for path in [LOCK, *sorted(STUB.glob("*.py"))]:
        digest.update(path.read_bytes())
    return cache_dir() / f"engine-{digest.hexdigest()[:12]}"


def install(uv: str, target: Path) -> None:
    """Install into a neighbour of `target`, then rename: an interrupted install is never taken for a whole one."""
    free = shutil.disk_usage(target.parent).free / 2**30
    if free < NEEDED_GIB:
        sys.exit(
            f"engine environment: needs {NEEDED_GIB} GiB in {target.parent}, {free:.1f} are free: "
            "make room or set XDG_CACHE_HOME"
        )
    began = time.monotonic()
    print(
        f"engine environment: installing torch, ray and sglang into {target} (about 6 GiB, some minutes, once)",
        flush=True,
    )
    with tempfile.TemporaryDirectory(prefix="engine-", dir=target.parent) as scratch:
        fresh = Path(scratch) / "env"
        subprocess.run([uv, "venv", "--quiet", "--relocatable", "--python", PYTHON, str(fresh)], check=True)
        python = str(fresh / "bin" / "python")
        # Compiled once, here: where Python may write no bytecode, each process of an engine would compile torch again.
        command = [uv, "pip", "install", "--compile-bytecode", "--python", python]
        subprocess.run([*command, "--no-deps", "--require-hashes", "-r", str(LOCK)], check=True)
        add_stub(python)
        fresh.rename(target)
    print(f"engine environment: ready after {time.monotonic() - began:.0f} s", flush=True)


def add_stub(python: str) -> None:
    """Copy the stub of sgl_kernel in: SGLang imports it on CPU too, and PyPI has it for CUDA only."""
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.run([python, "-c", ask], check=True, capture_output=True, text=True).stdout.strip()
    shutil.copytree(STUB, Path(site) / STUB.name)


def link(target: Path) -> None:
    """Point `engine` at the newest environment: where the CLI looks when nothing else is said."""
    fresh = target.parent / f"engine.{os.getpid()}"
    fresh.symlink_to(target.name)
    fresh.replace(target.parent / "engine")


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--where", action="store_true", help="print the interpreter's path and install nothing")
    parser.add_argument("--uv", default=shutil.which("uv") or "uv", help="the uv binary to install with")
    args = parser.parse_args()
    target = environment()
    if not args.where:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.is_dir():
            install(args.uv, target)
        link(target)
    print(target / "bin" / "python")


if __name__ == "__main__":
    main()
