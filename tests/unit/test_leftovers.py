"""A replica's directory: held while it lives, gone after it, swept after a kill."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sglang_serve import leftovers, progress

SHARED = Path("/dev/shm")
DIES_WITH_A_DIRECTORY = """
import os, sys
from pathlib import Path
from sglang_serve import leftovers
directory = leftovers.claim(Path(sys.argv[1]), "dead")
(directory.scratch / "tmpsocket").touch()
(directory.path / leftovers.SHARED_MEMORY).write_text(sys.argv[2])
os.kill(os.getpid(), 9)
"""
# As SGLang does with each image, in the process of the replica; the scheduler hangs and takes none. No end is clean:
# whoever ends a replica ends the tracker of Python's shared memory with it.
DIES_WITH_IMAGES = """
import os, sys
from multiprocessing import resource_tracker, shared_memory
from pathlib import Path
from sglang_serve import children, leftovers
directory = leftovers.claim(Path(sys.argv[1]), sys.argv[2])
leftovers.use_for_temporary_files(directory)
children.name_shared_memory(("unit.shared_names", "PREFIX"))
directory.note_shared_memory([])
from unit import shared_names
loads = f"sglang_loads_{os.environ[leftovers.ENV_SHARED_NAME]}_0"
for name in (shared_names.make("mm"), shared_names.make("mq"), loads):
    shared_memory.SharedMemory(create=True, size=1, name=name).close()
os.kill(resource_tracker._resource_tracker._pid, 9)
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def state() -> Iterator[Path]:
    """Short, as sockets need it; pytest's own directories are not."""
    with tempfile.TemporaryDirectory(prefix="s-") as path:
        yield Path(path)


def test_a_clean_end_leaves_nothing(state: Path) -> None:
    directory = leftovers.claim(state, "a")
    (directory.scratch / "tmpsocket").touch()
    directory.remove()
    directory.remove()
    assert list(state.iterdir()) == []


def test_a_killed_replica_is_swept_by_the_next_start_and_a_living_one_is_not(state: Path) -> None:
    shared = state.parent / f"{state.name}-shared"
    shared.touch()
    dies = [sys.executable, "-c", DIES_WITH_A_DIRECTORY, str(state), str(shared)]
    subprocess.run(dies, env={**os.environ, "PYTHONPATH": "images"}, check=False)
    assert (state / "dead" / "t" / "tmpsocket").exists()

    living, other = leftovers.claim(state, "living"), leftovers.claim(state, "other")
    assert sorted(path.name for path in state.iterdir()) == ["living", "other"]
    assert not shared.exists()
    assert living.scratch.is_dir()
    living.remove()
    other.remove()


def shared_of(replica: str) -> list[Path]:
    return [path for path in SHARED.iterdir() if replica in path.name]


@pytest.fixture
def hung() -> Iterator[str]:
    """The name of a replica, and none of its files is left after the test."""
    name = f"hung{os.getpid()}"
    yield name
    for path in shared_of(name):
        path.unlink()


def test_what_a_hung_engine_has_not_taken_is_swept_by_name_and_nobody_elses(state: Path, hung: str) -> None:
    """Another replica's may have the same pid in its name: that of another container."""
    dies = [sys.executable, "-c", DIES_WITH_IMAGES, str(state), hung]
    subprocess.run(dies, env={**os.environ, "PYTHONPATH": "images:tests"}, check=False)
    left = shared_of(hung)
    assert len(left) == 3
    others = [path.with_name(path.name.replace(hung, f"{hung}-1")) for path in left]
    for path in others:
        path.touch()

    leftovers.claim(state, "next").remove()
    assert sorted(shared_of(hung)) == sorted(others)


def test_a_failed_start_leaves_its_reason_until_the_next(state: Path) -> None:
    directory = leftovers.claim(state, "failed")
    progress.Progress(directory.path, lambda _: None).report("failed", "no memory", reason="OutOfMemory")
    shared = state / "shared"
    shared.touch()
    (directory.path / leftovers.SHARED_MEMORY).write_text(str(shared))
    directory.remove_all_but_progress()
    assert not shared.exists()
    assert [path.name for path in (state / "failed").iterdir()] == [progress.FILE]
    leftovers.claim(state, "next").remove()
    assert list(state.iterdir()) == []


def test_a_path_too_long_for_sockets_is_refused(state: Path) -> None:
    with pytest.raises(ValueError, match="choose a shorter one"):
        leftovers.claim(state / ("x" * 80), "a")


def test_temporary_files_lie_in_the_directory(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TMPDIR", "TORCHINDUCTOR_CACHE_DIR", "PROMETHEUS_MULTIPROC_DIR"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(tempfile, "tempdir", None)
    directory = leftovers.claim(state, "a")
    leftovers.use_for_temporary_files(directory)
    assert Path(tempfile.gettempdir()) == directory.scratch == Path(os.environ["TMPDIR"])
    assert Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).is_relative_to(directory.path)
    assert not Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]).is_relative_to(state)
    directory.remove()


def test_a_semaphore_is_found_although_it_is_mapped_under_another_name() -> None:
    lock = multiprocessing.get_context("spawn").Lock()
    name: str = lock._semlock.name  # type: ignore[attr-defined]
    assert f"/dev/shm/sem.{name.removeprefix('/')}" in leftovers.shared_memory([os.getpid()])
    assert leftovers.shared_memory([]) == set()
