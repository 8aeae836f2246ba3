"""Copies on the volume: which one serves while the storage is away, and volumes that are full or without locks."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from unit.storage_between import FILES, QUICK, URI, Between, between, content, download, kept, moto, reason, refuse

from sglang_serve import objects
from sglang_serve.errors import StartError

__all__ = ["between", "moto"]  # fixtures


def test_a_copy_is_on_the_disk_before_it_has_its_name(
    between: Between, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[int] = set()
    monkeypatch.setattr(os, "fsync", lambda handle: synced.add(os.fstat(handle).st_ino))
    path = download(tmp_path)
    assert {one.stat().st_ino for one in (path, path.parent, *path.rglob("*"))} <= synced


def test_what_is_there_is_not_downloaded_again(between: Between, tmp_path: Path) -> None:
    first = download(tmp_path)
    between.paths.clear()
    assert download(tmp_path) == first
    assert between.count("model") == between.count("list-type")


def test_a_changed_bucket_is_another_copy_beside_it(between: Between, moto: str, tmp_path: Path) -> None:
    first = download(tmp_path)
    client: Any = boto3.client("s3", endpoint_url=moto, region_name="us-east-1")
    client.put_object(Bucket="models", Key="finance/v3/config.json", Body=b'{"new": 1}')
    second = download(tmp_path)
    assert content(first) == FILES
    assert content(second) == {**FILES, "config.json": b'{"new": 1}'}


def test_a_copy_on_the_volume_outlives_the_storage_but_not_the_right_to_read_it(
    between: Between, tmp_path: Path
) -> None:
    first = download(tmp_path)
    between.spoil = refuse(500, "InternalError")
    said: list[str] = []
    assert download(tmp_path, said) == first
    assert "serving the copy" in said[-1]
    between.spoil = refuse(403, "AccessDenied")
    assert reason(tmp_path).reason == "AccessDenied"


def test_two_replicas_download_once(between: Between, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        paths = [*pool.map(lambda _: download(tmp_path), range(2))]
    assert paths[0] == paths[1]
    assert between.count("model-2.safetensors") == 1


@pytest.mark.parametrize(("load_format", "serves"), [("runai_streamer", True), ("gguf", True), ("mistral", False)])
def test_the_copy_of_an_image_with_one_note_for_all_formats(
    between: Between, tmp_path: Path, load_format: str, serves: bool
) -> None:
    """Where it has what this format reads."""
    copy = kept(tmp_path)
    (copy / "m-q4.gguf").touch()
    between.spoil = refuse(500, "InternalError")
    with nullcontext() if serves else pytest.raises(StartError):
        assert objects.download(URI, tmp_path, lambda _: None, QUICK, load_format) == copy


@pytest.mark.parametrize(("latest", "copy"), [("", "abc"), ("gone", "abc"), ("\0\0\0", "abc")])
def test_what_is_noted_of_no_copy_is_none(between: Between, tmp_path: Path, latest: str, copy: str) -> None:
    """As a failed node may leave it."""
    kept(tmp_path, latest, copy)
    between.spoil = refuse(500, "InternalError")
    assert reason(tmp_path).reason == "DownloadFailed"


@pytest.mark.parametrize("other", ["runai_streamer", "npcache"])
def test_a_copy_for_another_load_format_is_not_served(between: Between, tmp_path: Path, other: str) -> None:
    first = download(tmp_path)
    second = objects.download(URI, tmp_path, lambda _: None, QUICK, load_format=other)
    between.spoil = refuse(500, "InternalError")
    assert download(tmp_path) == first
    assert objects.download(URI, tmp_path, lambda _: None, QUICK, load_format=other) == second != first


def test_a_copy_is_as_good_on_a_volume_that_is_full_then(
    between: Between, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = download(tmp_path)
    (first.parent / "latest").write_text("older")
    native = Path.open

    def full(path: Path, *options: Any, **more: Any) -> Any:
        if path.name.startswith("latest") and options:
            raise OSError(errno.ENOSPC, "No space left on device")
        return native(path, *options, **more)

    monkeypatch.setattr(Path, "open", full)
    assert download(tmp_path) == first
    assert (first.parent / "latest").read_text() == "older", "nothing is shown"


def test_what_is_noted_is_not_written_again_and_never_half(
    between: Between, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    latest = download(tmp_path).parent / "latest"
    before = latest.stat().st_ino
    download(tmp_path)
    assert latest.stat().st_ino == before
    with latest.open() as old:
        objects._note(latest, "another")
        assert (old.read() != "another", latest.read_text()) == (True, "another")


def test_files_that_are_renamed_under_the_count_are_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "stays").write_bytes(b"x" * 10)
    for name in ("a.part", "sub/b.part"):
        (tmp_path / name).touch()
    native = Path.stat

    def stat(path: Path, **options: Any) -> os.stat_result:
        if path.suffix == ".part":
            path.unlink(missing_ok=True)
        return native(path, **options)

    monkeypatch.setattr(Path, "stat", stat)
    assert objects._arrived(tmp_path) == 10
    assert objects._arrived(tmp_path / "gone") == 0


def test_a_directory_that_goes_under_the_count_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p" / "sub").mkdir(parents=True)
    native = os.scandir

    def scandir(path: Any = ".") -> Any:
        if str(path).endswith("sub"):
            Path(path).rmdir()
        return native(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert objects._arrived(tmp_path / "p") == 0


def test_what_is_missing_on_the_volume_is_not_missing_in_the_storage(
    between: Between, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def vanished(*_: Any) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(tmp_path))

    monkeypatch.setattr(objects, "_sync", vanished)
    assert reason(tmp_path).reason == "DownloadFailed"


def test_a_volume_without_locks_is_no_place_for_a_copy(
    between: Between, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: Any) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    failure = reason(tmp_path)
    assert (failure.reason, "no file locks" in failure.message) == ("DownloadFailed", True)


def test_what_is_left_of_another_listing_takes_no_room(
    between: Between, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = objects._place(URI, tmp_path) / "0123456789abcdef.partial"
    old.mkdir(parents=True)
    (old / "config.json").touch()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0 if old.exists() else 2**40))
    assert content(download(tmp_path)) == FILES
