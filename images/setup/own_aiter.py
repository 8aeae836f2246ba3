"""Lets the pod's user compile the kernels of AITER, which has those that ROCm images do not bring ready.

    python3 own_aiter.py 1000

Runs in the build of Dockerfile.rocm, as root; standard library only. AITER compiles a kernel at its first use into
`aiter/jit` of its own package and imports it from nowhere else. Where it may not write there, it copies all of that
directory below the home directory at each start, compiles into the copy, and then finds no module of that name
(`get_user_jit_dir`, `get_module_custom_op` in aiter/jit/core.py of c16d44b, which SGLang's rocm.Dockerfile pinned).
Its tables of tuned kernels it merges in CONFIGS, which the build of the base leaves behind as root's.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path

CONFIGS = Path("/tmp/aiter_configs")  # noqa: S108 - AITER's own choice


def kernel_directory() -> Path | None:
    """Where AITER compiles; None in a base without AITER. It is not imported: that wants a GPU."""
    found = importlib.util.find_spec("aiter")
    if found is None or not found.submodule_search_locations:
        return None
    return Path(next(iter(found.submodule_search_locations))) / "jit"


def give(directory: Path, user: int) -> int:
    """Give `user` the directory and those below it; returns how many. Files stay root's: they can be replaced all the
    same, and of another owner they would all be in the image a second time, gigabytes."""
    directories = [root for root, _, _ in os.walk(directory)]
    for one in directories:
        os.chown(one, user, user)
    return len(directories)


def main() -> None:
    """See the module's text."""
    user, directory = int(sys.argv[1]), kernel_directory()
    if directory is None:
        print("own_aiter: this base has no AITER")
        return
    if not directory.is_dir():
        sys.exit(f"own_aiter: no {directory}: this AITER compiles elsewhere, and a pod could not use what it compiles")
    shutil.rmtree(CONFIGS, ignore_errors=True)
    print(f"own_aiter: {give(directory, user)} directories from {directory} on are {user}'s")


if __name__ == "__main__":
    main()
