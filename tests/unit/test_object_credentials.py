"""Who may read from object storage: credentials of a Secret, of the machine, or none."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from unit.storage_between import Between, between, download, kept, moto, reason, refuse

__all__ = ["between", "moto"]  # fixtures


@pytest.mark.parametrize("code", ["AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"])
def test_refused_credentials(between: Between, tmp_path: Path, code: str) -> None:
    between.spoil = refuse(403, code)
    failure = reason(tmp_path)
    assert failure.reason == "AccessDenied"
    assert "spec.model.storageSecret" in failure.remedy


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
