"""What is known of the hub's cache without the hub: commits of branches, whole copies, what was begun."""

from __future__ import annotations

import errno
import fcntl
from pathlib import Path

import pytest
from filelock import FileLock

from sglang_serve.errors import StartError
from sglang_serve.hub_cache import HubCache

COMMIT = "1" * 40
BLOB = "a" * 64
FILES = ("config.json", "model.safetensors", "pytorch_model.bin")


@pytest.fixture
def cache(tmp_path: Path) -> HubCache:
    one = HubCache(tmp_path, "org/name")
    snapshot = one.place / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    for name in FILES[:2]:
        (snapshot / name).touch()
    (one.place / "blobs").mkdir()
    return one


def test_a_branch_is_the_commit_that_it_was(cache: HubCache) -> None:
    assert cache.commit("feature/x") == ""
    cache.remember("feature/x", COMMIT, FILES)
    assert cache.commit("feature/x") == COMMIT
    assert cache.commit(COMMIT) == COMMIT


def test_a_copy_is_whole_if_it_has_what_this_load_format_needs(cache: HubCache) -> None:
    assert cache.whole(COMMIT, "auto") is None
    cache.remember("main", COMMIT, FILES)
    assert cache.whole(COMMIT, "auto") == cache.place / "snapshots" / COMMIT
    assert cache.whole(COMMIT, "npcache") is None
    (cache.place / "snapshots" / COMMIT / "config.json").unlink()
    assert cache.whole(COMMIT, "auto") is None


def test_bytes_of_other_revisions_do_not_count(cache: HubCache) -> None:
    blobs = cache.place / "blobs"
    (blobs / "old").write_bytes(b"x" * 4096)
    (blobs / "shared").write_bytes(b"x" * 4096)
    arrived = cache.arrived({"shared", "new"})
    before = arrived()
    (blobs / "new.0123abcd.incomplete").write_bytes(b"x" * 8192)
    (blobs / "under-another-name").write_bytes(b"x" * 4096)
    assert (before, arrived()) == (4096, 16384)


def test_what_was_begun_goes_unless_somebody_goes_on_with_it(cache: HubCache) -> None:
    live, wanted, whole, small = "a" * 64, "b" * 64, "c" * 64, "d" * 40
    kept = {f"{live}.0123abcd.incomplete", f"{wanted}.0123abcd.incomplete", f"{wanted}.incomplete", whole}
    gone = {f"{'e' * 64}.0123abcd.incomplete", f"{'e' * 64}.incomplete", f"{whole}.0123abcd.incomplete"}
    for name in {*kept, *gone, f"{small}.0123abcd.incomplete"}:
        (cache.place / "blobs" / name).touch()
    locks = cache.root / ".locks" / cache.name
    locks.mkdir(parents=True)
    with FileLock(locks / f"{live}.lock"):
        cache.remove_leftovers({wanted, whole, small})
    assert {path.name for path in (cache.place / "blobs").iterdir()} == kept


def test_without_locks_on_the_volume_nobody_knows_what_was_begun(
    cache: HubCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    cache.remove_leftovers({BLOB})
    begun = cache.place / "blobs" / f"{BLOB}.0123abcd.incomplete"
    begun.touch()
    for wanted in ({BLOB}, set[str]()):
        with pytest.raises(StartError, match="the volume has no file locks"):
            cache.remove_leftovers(wanted)
    assert begun.exists()
