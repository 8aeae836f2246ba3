"""Downloads from a real S3 server (moto's), by way of a server between that is slow, breaks off or refuses."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import http.client
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from moto.server import ThreadedMotoServer

from sglang_serve import args, objects
from sglang_serve.errors import StartError
from sglang_serve.models import Wanted, fetch

URI = "s3://models/finance/v3"
FILES = {
    "config.json": b"{}",
    "model-1.safetensors": bytes(range(256)) * 4096,  # 1 MiB, several pieces below
    "model-2.safetensors": b"weights" * 1000,
    "sub/tokenizer.json": b"[]",
}
PIECE = 100_000
QUICK = objects.Patience(piece_seconds=1.0, retries=1, retry_seconds=2.0)


@dataclass
class Between:
    """What the server between does to a request for a piece; None passes it on."""

    port: int = 0
    paths: list[str] = field(default_factory=list)
    spoil: Callable[[BaseHTTPRequestHandler, str], bool] | None = None

    def count(self, name: str) -> int:
        return sum(name in path for path in self.paths)


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def between(moto: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Between]:
    """A bucket with the model, and the environment that a Secret would give."""
    state = Between()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(state, urlsplit(moto).netloc))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    state.port = server.server_address[1]
    secret = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
    for name, value in {**secret, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{state.port}"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(objects, "PIECE", PIECE)
    monkeypatch.setattr(objects, "LOOK_SECONDS", 0.01)
    _fill(moto)
    yield state
    server.shutdown()
    server.server_close()


def _fill(moto: str) -> None:
    client: Any = boto3.client("s3", endpoint_url=moto, region_name="us-east-1")
    client.create_bucket(Bucket="models")
    client.put_object(Bucket="models", Key="finance/v3/", Body=b"")  # what consoles call a folder
    client.put_object(Bucket="models", Key="finance/v30/config.json", Body=b"another model")
    client.put_object(Bucket="models", Key="finance/v3/pytorch_model.bin", Body=b"the same again")
    for name, body in FILES.items():
        client.put_object(Bucket="models", Key=f"finance/v3/{name}", Body=body, ACL="public-read")


def _handler(state: Between, target: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            state.paths.append(self.path)
            if state.spoil and state.spoil(self, self.path):
                self.close_connection = True
                return
            onward = http.client.HTTPConnection(target)
            onward.request("GET", self.path, headers=dict(self.headers))
            answer = onward.getresponse()
            body = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "content-length", "connection", "date", "server"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    return Handler


def refuse(status: int, code: str) -> Callable[[BaseHTTPRequestHandler, str], bool]:
    def spoil(handler: BaseHTTPRequestHandler, _: str) -> bool:
        body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
        return True

    return spoil


def is_weights(path: str) -> bool:
    return path.endswith("model-1.safetensors")


def download(root: Path, said: list[str] | None = None, uri: str = URI) -> Path:
    return objects.download(uri, root, said.append if said is not None else lambda _: None, QUICK)


def content(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def reason(root: Path, uri: str = URI) -> StartError:
    with pytest.raises(StartError) as caught:
        download(root, uri=uri)
    return caught.value


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


def test_a_copy_is_on_the_disk_before_it_has_its_name(
    between: Between, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[int] = set()
    monkeypatch.setattr(os, "fsync", lambda handle: synced.add(os.fstat(handle).st_ino))
    path = download(tmp_path)
    assert {one.stat().st_ino for one in (path, path.parent, *path.rglob("*"))} <= synced


def test_the_uri_of_an_endpoint_leads_here(between: Between, tmp_path: Path) -> None:
    env = {args.ENV_OBJECTS_DIR: str(tmp_path)}
    assert content(fetch(Wanted(uri=URI), env, lambda _: None)) == FILES


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


@pytest.mark.parametrize("code", ["AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"])
def test_refused_credentials(between: Between, tmp_path: Path, code: str) -> None:
    between.spoil = refuse(403, code)
    failure = reason(tmp_path)
    assert failure.reason == "AccessDenied"
    assert "spec.model.storageSecret" in failure.remedy


@pytest.mark.parametrize("uri", ["s3://models/finance/v4", "s3://no-such-bucket/m"])
def test_what_is_not_there(between: Between, tmp_path: Path, uri: str) -> None:
    failure = reason(tmp_path, uri)
    assert (failure.reason, uri in failure.message) == ("ModelNotFound", True)


def test_a_failing_storage(between: Between, tmp_path: Path) -> None:
    between.spoil = refuse(500, "InternalError")
    assert reason(tmp_path).reason == "DownloadFailed"


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


def test_google_storage(between: Between, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its XML protocol is S3's, so that the same server can answer."""
    account = {"gcs_base_url": f"http://127.0.0.1:{between.port}", "disable_oauth": True}
    account |= {"client_email": "", "private_key": "", "private_key_id": ""}
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", json.dumps(account))
    assert content(download(tmp_path, uri="gs://models/finance/v3")) == FILES


def test_without_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine that would be asked for them is not there."""
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    failure = reason(tmp_path)
    assert (failure.reason, "no credentials" in failure.message) == ("AccessDenied", True)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Between]:
    """The service of a machine that gives credentials where no Secret does, and a copy of the model on the volume."""
    state = Between()

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            state.paths.append(self.path)
            assert state.spoil
            state.spoil(self, self.path)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    kept(tmp_path)
    yield state
    server.shutdown()
    server.server_close()


def kept(root: Path, latest: str = "abc", copy: str = "abc") -> Path:
    """A copy on the volume, and what is noted of the last one."""
    place = objects._place(URI, root)
    (place / copy).mkdir(parents=True)
    (place / "latest").write_text(latest)
    return place / copy


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


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_copy_outlives_the_service_for_credentials(machine: Between, tmp_path: Path, status: int) -> None:
    machine.spoil = refuse(status, "")
    assert download(tmp_path).name == "abc"
    failure = reason(tmp_path / "without")
    assert (failure.reason, "what gives credentials here" in failure.message) == ("DownloadFailed", True)
    assert "spec.model.storageSecret" in failure.remedy


def test_a_copy_outlives_a_service_for_credentials_that_is_silent(machine: Between, tmp_path: Path) -> None:
    over = threading.Event()
    machine.spoil = lambda *_: over.wait(30)
    assert download(tmp_path).name == "abc"
    over.set()


@pytest.mark.parametrize("status", [401, 403])
def test_a_service_that_gives_no_credentials(machine: Between, tmp_path: Path, status: int) -> None:
    machine.spoil = refuse(status, "")
    assert reason(tmp_path).reason == "AccessDenied"


def test_a_machine_without_a_role_has_no_credentials(machine: Between, tmp_path: Path) -> None:
    machine.spoil = lambda handler, path: refuse(200 if path.endswith("/token") else 404, "")(handler, path)
    failure = reason(tmp_path)
    assert any("security-credentials" in path for path in machine.paths), "nothing is shown"
    assert (failure.reason, "no credentials" in failure.message) == ("AccessDenied", True)


@pytest.mark.parametrize("name", ["AWS_METADATA_ENDPOINT", "AWS_CONTAINER_CREDENTIALS_FULL_URI"])
def test_a_copy_outlives_a_service_for_credentials_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "token").write_text("token")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv(name, "http://127.0.0.1:9/of/a/pod")
    copy = kept(tmp_path)
    assert download(tmp_path) == copy
    assert reason(tmp_path / "without").reason == "AccessDenied"


def test_a_model_that_is_called_credentials_is_none(between: Between, tmp_path: Path) -> None:
    between.spoil = refuse(500, "InternalError")
    assert reason(tmp_path, "s3://models/credentials").reason == "DownloadFailed"


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


def test_an_object_that_goes_under_the_download_is_missing_in_the_storage(between: Between, tmp_path: Path) -> None:
    between.spoil = lambda handler, path: is_weights(path) and refuse(404, "NoSuchKey")(handler, path)
    assert reason(tmp_path).reason == "ModelNotFound"


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
