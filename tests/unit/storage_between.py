"""A real S3 server (moto's) with a model, and a server between that is slow, breaks off or refuses."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from moto.server import ThreadedMotoServer

from sglang_serve import objects
from sglang_serve.errors import StartError

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


def kept(root: Path, latest: str = "abc", copy: str = "abc") -> Path:
    """A copy on the volume, and what is noted of the last one."""
    place = objects._place(URI, root)
    (place / copy).mkdir(parents=True)
    (place / "latest").write_text(latest)
    return place / copy
