from __future__ import annotations

import os
from pathlib import Path

import pytest

from sglang_serve.keys import RECHECK_SECONDS, KeyRing


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now

    def pass_recheck(self) -> None:
        self.now += RECHECK_SECONDS


@pytest.fixture
def clock() -> Clock:
    return Clock()


def mount(directory: Path, version: str, keys: dict[str, str]) -> None:
    """Write a Secret the way kubelet does: a new directory, then one rename of the `..data` symlink."""
    fresh = directory / f"..{version}"
    fresh.mkdir(parents=True)
    for name, key in keys.items():
        (fresh / name).write_text(key)
    link = directory / "..data_tmp"
    link.symlink_to(fresh.name)
    link.replace(directory / "..data")
    for name in keys:
        if not (directory / name).is_symlink():
            (directory / name).symlink_to(f"..data/{name}")


def test_several_named_keys(tmp_path: Path, clock: Clock) -> None:
    mount(tmp_path, "v1", {"alice": "a-key\n", "bob": "b-key"})
    ring = KeyRing(tmp_path, clock)
    assert ring.name_of(b"a-key") == "alice"  # the newline of an editor is no part of the key
    assert ring.name_of(b"b-key") == "bob"
    assert ring.name_of(b"c-key") is None
    assert ring.name_of(b"") is None


def test_rotation_counts_at_the_next_check(tmp_path: Path, clock: Clock) -> None:
    mount(tmp_path, "v1", {"alice": "old"})
    ring = KeyRing(tmp_path, clock)
    assert ring.name_of(b"old") == "alice"
    mount(tmp_path, "v2", {"alice": "new", "carol": "c-key"})
    clock.pass_recheck()
    assert ring.name_of(b"new") == "alice"
    assert ring.name_of(b"c-key") == "carol"
    assert ring.name_of(b"old") is None


def test_a_withdrawn_key_is_refused(tmp_path: Path, clock: Clock) -> None:
    mount(tmp_path, "v1", {"alice": "a-key", "bob": "b-key"})
    ring = KeyRing(tmp_path, clock)
    assert ring.name_of(b"b-key") == "bob"
    (tmp_path / "bob").unlink()
    clock.pass_recheck()
    assert ring.name_of(b"b-key") is None
    assert ring.name_of(b"a-key") == "alice"


def test_no_file_is_read_between_two_checks(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "alice").write_text("old")
    ring = KeyRing(tmp_path, clock)
    assert ring.name_of(b"old") == "alice"
    (tmp_path / "alice").unlink()
    assert ring.name_of(b"old") == "alice"


def test_a_read_that_falls_into_a_swap_keeps_the_last_set(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "alice").write_text("old")
    ring = KeyRing(tmp_path, clock)
    assert ring.name_of(b"old") == "alice"
    (tmp_path / "alice").write_text("newer")

    def vanish(_: Path) -> bytes:
        raise FileNotFoundError

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", vanish)
        clock.pass_recheck()
        assert ring.name_of(b"old") == "alice"
    clock.pass_recheck()
    assert ring.name_of(b"newer") == "alice"


def test_empty_files_hidden_files_and_directories_are_no_keys(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / ".hidden").write_text("h-key")
    (tmp_path / "directory").mkdir()
    ring = KeyRing(tmp_path, clock)
    assert ring.is_empty()
    assert ring.name_of(b"") is None
    assert ring.name_of(b"h-key") is None


def test_a_missing_path_holds_no_key_and_may_appear_later(tmp_path: Path, clock: Clock) -> None:
    ring = KeyRing(tmp_path / "admin", clock)
    assert ring.is_empty()
    (tmp_path / "admin").write_text("secret")
    clock.pass_recheck()
    assert ring.name_of(b"secret") == "admin"


def test_a_single_file_is_one_key(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "admin").write_text("secret")
    assert KeyRing(tmp_path / "admin", clock).name_of(b"secret") == "admin"


def test_same_size_and_time_but_another_file_is_seen(tmp_path: Path, clock: Clock) -> None:
    file = tmp_path / "alice"
    file.write_text("old")
    os.utime(file, ns=(1, 1))
    ring = KeyRing(tmp_path, clock)
    assert ring.name_of(b"old") == "alice"
    replacement = tmp_path / ".new"
    replacement.write_text("new")
    os.utime(replacement, ns=(1, 1))
    replacement.replace(file)
    clock.pass_recheck()
    assert ring.name_of(b"new") == "alice"


def test_the_ring_never_holds_a_key_in_clear(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "alice").write_text("sentinel-key")
    ring = KeyRing(tmp_path, clock)
    assert ring.name_of(b"sentinel-key") == "alice"
    assert "sentinel-key" not in repr(vars(ring))
