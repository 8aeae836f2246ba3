"""The lock that pods share, and volumes that have none."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from sglang_serve import objects, volume_lock
from sglang_serve.errors import StartError


def fail(number: int) -> object:
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return flock


def test_one_has_it_and_the_next_one_after_it(tmp_path: Path) -> None:
    path = tmp_path / "made" / "lock"
    with volume_lock.opened(path) as first, volume_lock.opened(path) as second:
        assert (first.take(), second.take()) == (True, False)
    with volume_lock.opened(path) as third:
        assert third.take()


def test_it_is_the_same_lock_as_filelocks(tmp_path: Path) -> None:
    """The hub's client takes that, and so did earlier versions of this package."""
    path = tmp_path / "lock"
    with FileLock(path), volume_lock.opened(path) as ours:
        assert not ours.take()
    with volume_lock.opened(path) as ours:
        assert ours.take()
        with pytest.raises(Timeout):
            FileLock(path).acquire(timeout=0)


def test_a_process_that_is_killed_frees_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    script = "import sys, time; from pathlib import Path; from sglang_serve import volume_lock\n"
    script += "with volume_lock.opened(Path(sys.argv[1])) as one: print(one.take(), flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script, path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "True\n"
        with volume_lock.opened(path) as one:
            assert not one.take()
            process.kill()
            process.wait()
            assert one.take()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_volume_without_locks_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(fcntl, "flock", fail(number))
    with volume_lock.opened(tmp_path / "lock") as one, pytest.raises(StartError) as caught:
        one.take()
    assert (caught.value.reason, "spec.model.cache" in caught.value.remedy) == ("DownloadFailed", True)


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EACCES])
def test_both_ways_to_say_that_somebody_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(fcntl, "flock", fail(number))
    with volume_lock.opened(tmp_path / "lock") as one:
        assert not one.take()


def test_a_file_that_was_removed_locks_nothing(tmp_path: Path) -> None:
    with volume_lock.opened(tmp_path / "lock") as one:
        (tmp_path / "lock").unlink()
        assert not one.take()


def test_who_waits_goes_on_when_the_lock_is_cleared_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As somebody does who removes a download that does not end."""
    monkeypatch.setattr(objects, "LOOK_SECONDS", 0.01)
    lock, said = tmp_path / "lock", []

    def say(text: str) -> None:
        said.append(text)
        lock.unlink()

    with volume_lock.opened(lock) as other:
        assert other.take()
        with objects._locked(lock, tmp_path / "partial", say):
            assert lock.is_file()
    assert len(said) == 1
