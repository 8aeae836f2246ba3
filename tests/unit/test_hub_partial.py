"""A file that is there in part is continued if it can be, and is right in the end."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sglang_serve.hub_partial import Partial

CONTENT = bytes(range(256)) * 16
HALF = len(CONTENT) // 2
ETAG = hashlib.sha256(CONTENT).hexdigest()
OURS = f"{ETAG}.00000000.incomplete"
THEIRS = f"{ETAG}.11111111.incomplete"


@pytest.fixture
def partial(tmp_path: Path) -> Partial:
    """As the client makes it: an empty file of its own."""
    (tmp_path / OURS).touch()
    found = Partial.at(tmp_path / OURS, len(CONTENT))
    assert found
    return found


def getter(partial: Partial, starts: list[int], content: bytes = CONTENT) -> Callable[[int], bool]:
    def get(start: int) -> bool:
        starts.append(start)
        with partial.path.open("r+b" if start else "wb") as out:
            out.seek(start)
            out.write(content[start:])
        return True

    return get


@pytest.mark.parametrize(
    ("left", "starts"),
    [
        ({}, [0]),
        ({THEIRS: CONTENT[:HALF]}, [HALF]),
        ({f"{ETAG}.incomplete": CONTENT[:HALF]}, [HALF]),  # an older client's
        ({THEIRS: CONTENT[:HALF], f"{ETAG}.22222222.incomplete": CONTENT[:100]}, [HALF]),
        ({THEIRS: CONTENT}, []),  # killed when it had all
        ({THEIRS: b""}, [0]),
        ({THEIRS: CONTENT + b"more"}, [0]),
        ({THEIRS: CONTENT + b"more", f"{ETAG}.22222222.incomplete": CONTENT[:HALF]}, [HALF]),
        ({THEIRS: b"x" * HALF}, [HALF, 0]),
        ({THEIRS: b"x" * len(CONTENT)}, [0]),
        ({f"{'0' * 64}.11111111.incomplete": CONTENT[:HALF]}, [0]),  # of another file
    ],
)
def test_what_there_is_of_it_is_not_downloaded_again(
    partial: Partial, left: dict[str, bytes], starts: list[int]
) -> None:
    for name, content in left.items():
        partial.path.with_name(name).write_bytes(content)
    asked: list[int] = []
    partial.fetch(getter(partial, asked))
    assert (asked, partial.path.read_bytes()) == (starts, CONTENT)
    assert [path.name for path in partial.path.parent.glob(f"{ETAG}*")] == [OURS]


@pytest.mark.parametrize("left", [b"", CONTENT[:HALF], CONTENT])
def test_a_file_is_on_the_disk_before_the_client_names_it(
    partial: Partial, left: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    partial.path.with_name(THEIRS).write_bytes(left)
    synced: list[bytes] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.pread(handle, 2 * len(CONTENT), 0)))
    partial.fetch(getter(partial, []))
    assert synced == [CONTENT]


def test_a_file_that_cannot_be_had_from_there_is_fetched_whole(partial: Partial) -> None:
    partial.path.with_name(THEIRS).write_bytes(CONTENT[:HALF])
    whole = getter(partial, [])
    partial.fetch(lambda start: start == 0 and whole(0))
    assert partial.path.read_bytes() == CONTENT


def test_a_failed_download_leaves_its_part_to_the_next_one(partial: Partial) -> None:
    """The client removes what is at the path."""

    def fail(_: int) -> bool:
        partial.path.write_bytes(CONTENT[:HALF])
        raise OSError("broken")

    with pytest.raises(OSError, match="broken"):
        partial.fetch(fail)
    assert not partial.path.exists()
    partial.path.touch()
    asked: list[int] = []
    partial.fetch(getter(partial, asked))
    assert asked == [HALF]


def test_one_that_failed_before_its_first_byte_leaves_nothing(partial: Partial) -> None:
    def fail(_: int) -> bool:
        raise OSError("refused")

    with pytest.raises(OSError, match="refused"):
        partial.fetch(fail)
    assert [*partial.path.parent.iterdir()] == [partial.path]


def test_a_part_of_another_user_is_not_gone_on_with(partial: Partial, monkeypatch: pytest.MonkeyPatch) -> None:
    partial.path.with_name(THEIRS).write_bytes(CONTENT[:HALF])
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everything
    asked: list[int] = []
    partial.fetch(getter(partial, asked))
    assert asked == [0]


@pytest.mark.parametrize(
    ("name", "size"),
    [
        (f"{ETAG}.incomplete", 1),
        (f"{'0' * 40}.00000000.incomplete", 1),  # a small file, in git
        (OURS, None),
        (OURS, 0),
        ("a-file-of-somebody", 1),
    ],
)
def test_what_nobody_can_check_is_the_clients_own_affair(name: str, size: int | None) -> None:
    assert Partial.at(Path("/blobs", name), size) is None
