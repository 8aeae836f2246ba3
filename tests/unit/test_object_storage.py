"""Downloads from a real S3 server (moto's), by way of a server between that is slow, breaks off or refuses."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import boto3
import pytest
from unit.storage_between import (
    FILES,
    PIECE,
    QUICK,
    URI,
    Between,
    between,
    content,
    download,
    is_weights,
    moto,
    reason,
    refuse,
)

from sglang_serve import args, objects
from sglang_serve.models import Wanted, fetch

__all__ = ["between", "moto"]  # fixtures


def test_the_files_of_the_model_and_no_others(between: Between, tmp_path: Path) -> None:
    said: list[str] = []
    assert content(download(tmp_path, said)) == FILES
    assert between.count("model-1.safetensors") == -(-len(FILES["model-1.safetensors"]) // PIECE)
    assert any("1.0 MiB" in line for line in said)


def test_the_load_format_decides_which_copy(between: Between, tmp_path: Path) -> None:
    got = objects.download(URI, tmp_path, lambda _: None, QUICK, load_format="npcache")
    assert content(got) == {**FILES, "pytorch_model.bin": b"the same again"}


def test_of_a_model_that_the_engine_streams_only_what_is_beside_the_weights(between: Between, tmp_path: Path) -> None:
    got = objects.download(URI, tmp_path, lambda _: None, QUICK, load_format="runai_streamer")
    assert content(got) == {name: data for name, data in FILES.items() if not name.endswith(".safetensors")}
    assert not any(name in path for path in between.paths for name in ("safetensors", "pytorch_model"))


def test_the_uri_of_an_endpoint_leads_here(between: Between, tmp_path: Path) -> None:
    env = {args.ENV_OBJECTS_DIR: str(tmp_path)}
    assert content(fetch(Wanted(uri=URI), env, lambda _: None)) == FILES


def test_a_download_that_broke_off_goes_on(between: Between, tmp_path: Path) -> None:
    between.spoil = lambda handler, path: is_weights(path) and between.count("model-1") > 5
    assert reason(tmp_path).reason == "DownloadFailed"
    (part,) = tmp_path.rglob("model-1.safetensors.part")
    assert part.stat().st_size == 5 * PIECE
    with part.open("r+b") as written:  # the node failed: the size of a file may be on the disk before its content
        written.seek(-PIECE, os.SEEK_END)
        written.write(bytes(PIECE))
    between.spoil = None
    between.paths.clear()
    assert content(download(tmp_path)) == FILES
    assert between.count("model-1") == 7, "but for four whole pieces"


def test_each_piece_is_on_the_disk_before_the_next(
    between: Between, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda handle: sizes.append(os.fstat(handle).st_size))
    download(tmp_path)
    assert set(range(PIECE, len(FILES["model-1.safetensors"]), PIECE)) <= set(sizes)


@contextmanager
def also(moto: str, key: str, body: bytes) -> Iterator[None]:
    """Another object below the model's address."""
    client: Any = boto3.client("s3", endpoint_url=moto, region_name="us-east-1")
    client.put_object(Bucket="models", Key=f"finance/v3/{key}", Body=body)
    try:
        yield
    finally:
        client.delete_object(Bucket="models", Key=f"finance/v3/{key}")


def test_a_folder_that_a_console_made_is_no_file(between: Between, moto: str, tmp_path: Path) -> None:
    with also(moto, "sub/", b""):
        assert content(download(tmp_path)) == FILES


def test_a_file_and_a_folder_of_one_name_are_refused(between: Between, moto: str, tmp_path: Path) -> None:
    with also(moto, "sub", b"content"):
        error = reason(tmp_path)
    assert (error.reason, "'sub' is a file and a folder" in str(error)) == ("ModelNotFound", True)


def test_one_break_is_mended_at_once(between: Between, tmp_path: Path) -> None:
    broken: list[str] = []

    def once(handler: BaseHTTPRequestHandler, path: str) -> bool:
        if not is_weights(path) or broken:
            return False
        broken.append(path)
        handler.send_response(206)
        handler.send_header("Content-Length", str(PIECE))
        body = FILES["model-1.safetensors"]
        handler.send_header("Content-Range", f"bytes 0-{PIECE - 1}/{len(body)}")
        handler.send_header("ETag", f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"')
        handler.end_headers()
        handler.wfile.write(body[: PIECE // 2])
        return True

    between.spoil = once
    assert content(download(tmp_path)) == FILES
    assert broken


def test_a_storage_that_stalls_is_not_waited_for(between: Between, tmp_path: Path) -> None:
    over = threading.Event()
    between.spoil = lambda handler, path: is_weights(path) and over.wait(30)
    failure = reason(tmp_path)
    over.set()
    assert failure.reason == "DownloadFailed"
    assert "stalled" in failure.message


@pytest.mark.parametrize("uri", ["s3://models/finance/v4", "s3://no-such-bucket/m"])
def test_what_is_not_there(between: Between, tmp_path: Path, uri: str) -> None:
    failure = reason(tmp_path, uri)
    assert (failure.reason, uri in failure.message) == ("ModelNotFound", True)


def test_a_failing_storage(between: Between, tmp_path: Path) -> None:
    between.spoil = refuse(500, "InternalError")
    assert reason(tmp_path).reason == "DownloadFailed"


def test_google_storage(between: Between, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its XML protocol is S3's, so that the same server can answer."""
    account = {"gcs_base_url": f"http://127.0.0.1:{between.port}", "disable_oauth": True}
    account |= {"client_email": "", "private_key": "", "private_key_id": ""}
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", json.dumps(account))
    assert content(download(tmp_path, uri="gs://models/finance/v3")) == FILES


def test_an_object_that_goes_under_the_download_is_missing_in_the_storage(between: Between, tmp_path: Path) -> None:
    between.spoil = lambda handler, path: is_weights(path) and refuse(404, "NoSuchKey")(handler, path)
    assert reason(tmp_path).reason == "ModelNotFound"
