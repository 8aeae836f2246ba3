"""A small server that speaks the model hub's protocol, as far as its client asks; tests spoil its answers."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

REPOSITORY = "org/name"
INFO = re.compile(rf"/api/models/{REPOSITORY}/revision/([^?]+)")
TREE = re.compile(rf"/api/models/{REPOSITORY}/tree/([^?]+)")
FILE = re.compile(rf"/{REPOSITORY}/resolve/([0-9a-f]{{40}})/(.+)")


@dataclass
class Hub:
    """Its repository: commits with their files, branches, and what tests do to a request (True: answered)."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    spoil: Callable[[BaseHTTPRequestHandler], bool] | None = None
    asked: list[str] = field(default_factory=list)
    """Method, path and range of each request."""
    url: str = ""

    def push(self, commit: str, files: dict[str, bytes], branch: str = "main") -> None:
        self.commits[commit] = files
        self.branches[branch] = commit

    def count(self, method: str, name: str) -> int:
        """Requests for a file, or any path with `name`."""
        return sum(one.startswith(method) and name in one for one in self.asked)

    def find(self, revision: str) -> str:
        return self.branches.get(revision, revision)


@contextmanager
def running(hub: Hub, host: str = "127.0.0.1") -> Iterator[Hub]:
    server = ThreadingHTTPServer((host, 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hub.url = f"http://{host}:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def refuse(handler: BaseHTTPRequestHandler, status: int, code: str = "") -> bool:
    handler.send_response(status)
    if code:
        handler.send_header("X-Error-Code", code)
    handler.send_header("Content-Length", "0")
    handler.send_header("Connection", "close")
    handler.end_headers()
    return True


def send_headers(handler: BaseHTTPRequestHandler, headers: dict[str, str], status: int = 200) -> bool:
    handler.send_response(status)
    for name, value in {**headers, "Content-Length": "0", "Connection": "close"}.items():
        handler.send_header(name, value)
    handler.end_headers()
    return True


def send_redirect(handler: BaseHTTPRequestHandler, to: str, name: str, body: bytes) -> bool:
    """To where a large file is, as the hub's own server does."""
    commit = FILE.fullmatch(handler.path).group(1)  # type: ignore[union-attr]
    linked = {"X-Linked-ETag": f'"{blob(name, body)}"', "X-Linked-Size": str(len(body))}
    return send_headers(handler, {"Location": to, "X-Repo-Commit": commit, **linked}, 302)


def send_part(handler: BaseHTTPRequestHandler, body: bytes, until: int) -> int:
    """The file as it is asked for, but it ends at `until`, and the connection with it. Returns where it began."""
    start = _start(handler)
    _send_head(handler, body, start)
    handler.wfile.write(body[start:until])
    handler.wfile.flush()
    return start


def slow(name: str, pieces: int, seconds: float) -> Callable[[BaseHTTPRequestHandler], bool]:
    """What sends files of this name in so many pieces, and so long apart."""

    def send(handler: BaseHTTPRequestHandler) -> bool:
        if not is_file(handler, name):
            return False
        commit, path = FILE.fullmatch(handler.path).groups()  # type: ignore[union-attr]
        body = handler.hub.commits[commit][path]  # type: ignore[attr-defined]
        piece = len(body) // pieces + 1
        send_part(handler, body, piece)
        for start in range(piece, len(body), piece):
            time.sleep(seconds)
            handler.wfile.write(body[start : start + piece])
        return True

    return send


def is_file(handler: BaseHTTPRequestHandler, name: str) -> bool:
    return handler.command == "GET" and handler.path.endswith(f"/{name}")


def blob(name: str, body: bytes) -> str:
    """Name of a file's content: large ones are in LFS, the others in git."""
    if name.endswith(".safetensors"):
        return hashlib.sha256(body).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False).hexdigest()


def _row(name: str, body: bytes) -> dict[str, Any]:
    lfs = {"oid": blob(name, body), "sha256": blob(name, body), "size": len(body), "pointerSize": 130}
    row: dict[str, Any] = {"size": len(body), "oid": blob(name, body), "blobId": blob(name, body)}
    row |= {"type": "file", "path": name, "rfilename": name}
    return {**row, "lfs": lfs} if name.endswith(".safetensors") else row


def _start(handler: BaseHTTPRequestHandler) -> int:
    wanted = re.match(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    return int(wanted[1]) if wanted else 0


def _send_head(handler: BaseHTTPRequestHandler, body: bytes, start: int) -> None:
    commit, name = FILE.fullmatch(handler.path).groups()  # type: ignore[union-attr]
    handler.send_response(206 if start else 200)
    handler.send_header("X-Repo-Commit", commit)
    handler.send_header("ETag", f'"{blob(name, body)}"')
    if name.endswith(".safetensors"):
        handler.send_header("X-Linked-ETag", f'"{blob(name, body)}"')
        handler.send_header("X-Linked-Size", str(len(body)))
    if start:
        handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
    handler.send_header("Content-Length", str(len(body) - start))
    handler.end_headers()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.hub.asked.append(f"{self.command} {self.path} {self.headers.get('Range', '')}")
        if self.hub.spoil and self.hub.spoil(self):
            self.close_connection = True
        elif found := FILE.fullmatch(self.path):
            self._file(self.hub.commits[found[1]], found[2])
        elif found := INFO.match(self.path) or TREE.match(self.path):
            self._listing(self.hub.find(found[1]), "/tree/" in self.path)
        else:
            refuse(self, 404, "RepoNotFound")

    def _listing(self, commit: str, is_tree: bool) -> None:
        if commit not in self.hub.commits:
            refuse(self, 404, "RevisionNotFound")
            return
        rows = [_row(*one) for one in self.hub.commits[commit].items()]
        self._json(rows if is_tree else {"_id": "1", "id": REPOSITORY, "sha": commit, "siblings": rows})

    def _json(self, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _file(self, files: dict[str, bytes], name: str) -> None:
        if name not in files:
            refuse(self, 404, "EntryNotFound")
            return
        start = _start(self)
        _send_head(self, files[name], start)
        if self.command == "GET":
            self.wfile.write(files[name][start:])

    def log_message(self, *_: Any) -> None:
        """Quiet."""
