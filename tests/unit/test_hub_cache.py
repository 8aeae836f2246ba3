"""What is known of the hub's cache without the hub: commits of branches, whole copies, what was begun."""

from __future__ import annotations

import errno
import fcntl
import json
from pathlib import Path

import pytest
from filelock import FileLock

from sglang_serve.errors import StartError
from sglang_serve.hub_cache import File, HubCache

COMMIT = "1" * 40
BLOB = "a" * 64
FILES = ("config.json", "model.safetensors", "pytorch_model.bin")
LISTED = {name: File(0, "") for name in FILES}


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
    cache.remember("feature/x", COMMIT, LISTED)
    assert cache.commit("feature/x") == COMMIT
    assert cache.commit(COMMIT) == COMMIT


def test_a_copy_is_whole_if_it_has_what_this_load_format_needs(cache: HubCache) -> None:
    assert cache.whole(COMMIT, "auto") is None
    assert not cache.is_listed(COMMIT)
    cache.remember("main", COMMIT, LISTED)
    assert cache.is_listed(COMMIT)
    assert cache.whole(COMMIT, "auto") == cache.place / "snapshots" / COMMIT
    assert cache.whole(COMMIT, "npcache") is None
    (cache.place / "snapshots" / COMMIT / "config.json").unlink()
    assert cache.whole(COMMIT, "auto") is None


def test_a_file_that_a_failed_node_cut_off_is_not_whole(cache: HubCache) -> None:
    weights = cache.place / "snapshots" / COMMIT / "model.safetensors"
    cache.remember("main", COMMIT, {**LISTED, "model.safetensors": File(8, BLOB)})
    weights.write_bytes(b"x" * 7)
    assert cache.whole(COMMIT, "auto") is None
    weights.write_bytes(b"x" * 8)
    assert cache.whole(COMMIT, "auto")


def test_a_listing_of_names_alone_is_one(cache: HubCache) -> None:
    cache.remember("main", COMMIT, LISTED)
    (cache.place / "listings" / f"{COMMIT}.json").write_text(json.dumps(FILES))
    assert cache.whole(COMMIT, "auto")


def linked(cache: HubCache, blob: str, size: int, *commits: str) -> Path:
    """A file of weights in the cache, and its name in these commits."""
    path = cache.place / "blobs" / blob
    path.write_bytes(b"x" * size)
    for commit in commits:
        link = cache.place / "snapshots" / commit / f"{blob[0]}.safetensors"
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(path)
    return path


def test_what_is_shorter_than_it_is_listed_goes(cache: HubCache) -> None:
    """Only that: of a proxy's listing a size may be wrong, and who downloads a file has its lock."""
    short, whole, longer, busy = (linked(cache, letter * 64, 8, COMMIT) for letter in "abcd")
    copy = cache.place / "snapshots" / COMMIT / "e.safetensors"  # where a volume has no links
    copy.write_bytes(b"x" * 8)
    sizes = {short: 9, whole: 8, longer: 7, busy: 9, cache.place / "blobs" / ("e" * 64): 9}
    files = {f"{path.name[0]}.safetensors": File(size, path.name) for path, size in sizes.items()}
    locks = cache.root / ".locks" / cache.name
    locks.mkdir(parents=True)
    with FileLock(locks / f"{busy.name}.lock"):
        cache.remove_short(COMMIT, {**files, "none": File(0, "")})
    left = [path.name[0] for path in (short, whole, longer, busy, copy) if path.exists()]
    assert left == ["b", "c", "d"]


def test_a_mirror_may_name_contents_otherwise(cache: HubCache) -> None:
    """And what a link leads to elsewhere is not ours to remove."""
    content, foreign = linked(cache, "a" * 64, 8, COMMIT), cache.root / "elsewhere"
    foreign.write_bytes(b"x")
    (cache.place / "snapshots" / COMMIT / "b.safetensors").symlink_to(foreign)
    cache.remove_short(COMMIT, {"a.safetensors": File(9, "listed"), "b.safetensors": File(9, "other")})
    assert not content.exists()
    assert foreign.exists()
    assert not list((cache.place / "snapshots" / COMMIT).glob("?.safetensors"))


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
