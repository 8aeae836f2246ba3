"""What a replica leaves on disk: one short directory, removed at its end, swept by the next start after a kill.

Engines make sockets and files with `tempfile` and rarely remove them; so `tempfile` and TMPDIR point into the replica's
own directory before the engine is imported. A lock marks the owner: the kernel releases it however the process ends,
where a pid could belong to somebody else by then, or to another container.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from sglang_serve import progress

LOCK = "lock"
METRICS = "metrics"  # of a replica's directory: prometheus_client's files
LONGEST_SOCKET_PATH = 107  # of a Unix socket, in bytes
SOCKET_NAME = "tmpxxxxxxxx"  # as tempfile makes them
SHARED = Path("/dev/shm")  # noqa: S108 - where Linux has shared memory
SHARED_MEMORY = "shared-memory"  # a list of the engine's files in /dev/shm, one per line
ENV_SHARED_NAME = "SGLANG_SERVE_SHARED_NAME"  # what the engine's own names in /dev/shm have in them: this replica's
SHARED_PREFIXES = ("/dev/shm/sgl", "/dev/shm/sem.mp-")  # noqa: S108 - SGLang's load reports, multiprocessing's locks


class ReplicaDirectory:
    """`<state>/<replica>`, held by this process: `scratch` for the engine's files, `errors` for its tracebacks."""

    def __init__(self, path: Path, lock: TextIO) -> None:
        self.path = path
        self.scratch = path / "t"
        self.errors = path / "errors"
        self._lock = lock
        self.scratch.mkdir()
        self.errors.mkdir()

    def note_shared_memory(self, pids: Sequence[int]) -> None:
        """Note which files in /dev/shm these processes and ours use: SGLang ends by SIGKILL and leaves them."""
        (self.path / SHARED_MEMORY).write_text("\n".join(sorted(shared_memory([*pids, os.getpid()]))))

    def remove(self) -> None:
        """Remove all of it; harmless the second time."""
        _remove(self.path)
        self._lock.close()

    def remove_all_but_progress(self) -> None:
        """After a failed start: its reason stays to be read until the next start sweeps it."""
        _remove_shared_memory(self.path)
        for path in self.path.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != progress.FILE:
                path.unlink(missing_ok=True)
        self._lock.close()


def claim(state: Path, replica: str) -> ReplicaDirectory:
    """Sweep what dead replicas left in `state`, then make and hold this replica's directory."""
    path = state / replica
    if len(f"{path}/t/{SOCKET_NAME}".encode()) > LONGEST_SOCKET_PATH:
        raise ValueError(f"the state directory {state} is too long a path for the sockets in it: choose a shorter one")
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _only_one(state):  # a directory that another replica has made but not locked yet must not be swept
        sweep(state)
        path.mkdir(mode=0o700)
        lock = (path / LOCK).open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
    return ReplicaDirectory(path, lock)


def sweep(state: Path) -> None:
    """Remove the directories in `state` whose owner is gone."""
    for path in state.iterdir():
        if path.is_dir() and not _is_held(path / LOCK):
            _remove(path)


def held(state: Path) -> list[Path]:
    """The directories of replicas that live, in order."""
    return [path for path in sorted(state.iterdir()) if path.is_dir() and _is_held(path / LOCK)]


def use_for_temporary_files(directory: ReplicaDirectory) -> None:
    """Let this process and its children make their temporary files in `directory`. Compiled kernels stay shared."""
    shared = Path(tempfile.gettempdir())
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(shared / f"torchinductor_{os.getuid()}"))
    os.environ["TMPDIR"] = tempfile.tempdir = str(directory.scratch)
    # prometheus_client reads it when it is first imported; preset by the pod, all its replicas would share one.
    metrics = directory.path / METRICS
    metrics.mkdir()
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(metrics)
    # Locks of multiprocessing lie in /dev/shm, and their tracker is killed with the engine: they carry our name.
    multiprocessing.current_process()._config["semprefix"] = f"/mp-{directory.path.name}"  # type: ignore[attr-defined]
    # So do files that SGLang makes: images on their way to a hung scheduler lie there, and nothing has mapped them.
    os.environ[ENV_SHARED_NAME] = directory.path.name


def _remove(path: Path) -> None:
    _remove_shared_memory(path)
    shutil.rmtree(path, ignore_errors=True)


def _remove_shared_memory(path: Path) -> None:
    with suppress(OSError):  # an engine that never got that far
        for name in (path / SHARED_MEMORY).read_text().splitlines():
            Path(name).unlink(missing_ok=True)
    for pattern in (f"sem.mp-{path.name}-*", f"{shared_prefix(path.name)}_*", f"sglang_loads_{path.name}_*"):
        for left in SHARED.glob(pattern):
            with suppress(OSError):  # anybody may make a file of that name
                left.unlink()


def shared_prefix(name: str) -> str:
    """What SGLang's names of shared memory begin with in the processes of this replica; its own is `sgl_shm`.

    By its name, not by the pid that SGLang puts there: another process may have that by then, also one of another
    container that shares /dev/shm.
    """
    return f"sgl_shm-{name}"


def shared_memory(pids: Sequence[int]) -> set[str]:
    """Paths of the files in /dev/shm that an engine of these processes leaves when it is killed.

    By their inodes: a semaphore is mapped under the name that it had while it was made.
    """
    lines = (line.split() for pid in pids for line in _maps(pid).splitlines() if f" {SHARED}/" in line)
    mapped = {words[4] for words in lines}
    return {str(path) for path in SHARED.iterdir() if str(path).startswith(SHARED_PREFIXES) and _inode(path) in mapped}


@contextmanager
def shared_memory_removed(pids: Sequence[int]) -> Iterator[None]:
    """These processes end in the block; what they leave in /dev/shm is removed after it."""
    left = shared_memory(pids)
    try:
        yield
    finally:
        for path in left:
            Path(path).unlink(missing_ok=True)


def _inode(path: Path) -> str:
    try:
        return str(path.stat().st_ino)
    except FileNotFoundError:
        return ""


def _maps(pid: int) -> str:
    """ "" for a process that has just ended: whoever waits for it says why."""
    try:
        return Path(f"/proc/{pid}/maps").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


@contextmanager
def _only_one(directory: Path) -> Iterator[None]:
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _is_held(lock: Path) -> bool:
    try:
        with lock.open() as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False
