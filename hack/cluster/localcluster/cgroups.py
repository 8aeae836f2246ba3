"""A cgroup for each node's pods, in whatever version of cgroups this machine has.

Two kubelets with the same cgroup end each other's pods as orphans, so each gets one of its own.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

MOUNTS: Final = Path("/proc/mounts")
UNIFIED: Final = Path("/sys/fs/cgroup/cgroup.controllers")
# A group weighs as much as one process outside of it, unless told otherwise: then a busy machine would starve all pods.
WEIGHT: Final = 3  # ordinary processes
BUSY_SECONDS: Final = 30.0
STEP_SECONDS: Final = 0.05
CONTROLLERS: Final = ("cpu", "cpuset", "io", "memory", "pids", "hugetlb")


def make(name: str) -> None:
    """The cgroup /`name`, unless it is there."""
    if UNIFIED.is_file():
        _delegate(UNIFIED.parent)
        group = UNIFIED.parent / name
        group.mkdir(exist_ok=True)
        _delegate(group)
        (group / "cpu.weight").write_text(str(WEIGHT * 100))
        return
    for hierarchy in _mounted("cgroup"):
        group = hierarchy / name
        group.mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):  # empty in a new group, and no process can enter it then
            if (hierarchy / setting).is_file():
                (group / setting).write_text((hierarchy / setting).read_text())
        if (group / "cpu.shares").is_file():
            (group / "cpu.shares").write_text(str(WEIGHT * 1024))


def remove(name: str) -> None:
    """The cgroup /`name` with everything below it. Its processes have ended."""
    for top in (root / name for root in _mounted("cgroup", "cgroup2")):
        if top.is_dir():
            below = [path for path in top.rglob("*") if path.is_dir()]
            for group in sorted([top, *below], key=lambda path: len(path.parts), reverse=True):
                _remove(group)


def _remove(group: Path) -> None:
    """Processes that were killed are in it until the kernel is done with them."""
    limit = time.monotonic() + BUSY_SECONDS
    while group.is_dir():
        try:
            group.rmdir()
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > limit:
                raise
            time.sleep(STEP_SECONDS)


def _mounted(*kinds: str) -> Iterator[Path]:
    """Where cgroups are: one mount for each controller of version 1, one for version 2; runc uses both."""
    for line in MOUNTS.read_text(encoding="utf-8").splitlines():
        _, where, kind, *_ = line.split()
        if kind in kinds:
            yield Path(where)


def _delegate(group: Path) -> None:
    """Let children of a version 2 group be limited by whatever the group itself may limit."""
    offered = (group / "cgroup.controllers").read_text(encoding="ascii").split()
    wanted = " ".join(f"+{controller}" for controller in CONTROLLERS if controller in offered)
    (group / "cgroup.subtree_control").write_text(wanted, encoding="ascii")
