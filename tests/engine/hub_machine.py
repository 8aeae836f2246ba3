"""A machine that downloads models from a hub by its own client, each in a process of the engine environment."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from engine import hub_server
from engine.hub_server import REPOSITORY, Hub, blob, send_headers

IMAGES = Path(__file__).parents[2] / "images"
FIRST, SECOND = "1" * 40, "2" * 40
WEIGHTS = bytes(range(256)) * 8192  # 2 MiB
FILES = {"config.json": b"{}", "model.safetensors": WEIGHTS, "sub/tokenizer.json": b"[]"}
COPIES = {"pytorch_model.bin": b"the same again", "original/consolidated.00.pth": b"and again"}
# What models.fetch does, in a process of its own; each line it prints is news, the last one its end.
PROGRAM = """
import json, sys, traceback
from sglang_serve import hub, progress
from sglang_serve.errors import StartError
progress.DOWNLOAD_SECONDS = 0.05
hub.constants.DOWNLOAD_CHUNK_SIZE = 2**16  # what the client reads before it writes; 10 MiB otherwise
say = lambda what: print(json.dumps(what), flush=True)
try:
    print(json.dumps({"path": str(getattr(hub, sys.argv[1])(*json.loads(sys.argv[2]), say=say))}))
except StartError as error:
    traceback.print_exception(error)  # as a replica does
    print(json.dumps({"reason": error.reason, "message": error.message, "remedy": error.remedy}))
"""


@dataclass(frozen=True)
class Result:
    """What came of a download."""

    said: Sequence[str]
    path: Path
    reason: str
    message: str
    log: str

    @property
    def files(self) -> dict[str, bytes]:
        return {str(one.relative_to(self.path)): one.read_bytes() for one in self.path.rglob("*") if one.is_file()}


class Machine:
    """One that has a cache and reaches the hub."""

    def __init__(self, python: Path, home: Path, hub: Hub) -> None:
        self._python, self._home, self.hub = python, home, hub
        self._started: list[subprocess.Popen[str]] = []

    @property
    def blobs(self) -> Path:
        return self._home / "hub" / f"models--{REPOSITORY.replace('/', '--')}" / "blobs"

    def start(self, revision: str = "main", commit: str = "", **env: str) -> subprocess.Popen[str]:
        return self._call("download", [REPOSITORY, revision, commit], env)

    def resolve(self, revision: str = "main") -> Result:
        return result(self._call("resolve", [REPOSITORY, revision, "auto"], {}))

    def _call(self, name: str, arguments: list[str], env: dict[str, str]) -> subprocess.Popen[str]:
        places = {"HF_HOME": str(self._home), "HF_ENDPOINT": self.hub.url, "PYTHONPATH": str(IMAGES)}
        quick = {"HF_HUB_DOWNLOAD_TIMEOUT": "1", "HF_HUB_ETAG_TIMEOUT": "1", "PYTHONWARNINGS": "ignore"}
        process = subprocess.Popen(
            [self._python, "-c", PROGRAM, name, json.dumps(arguments)],
            env={**os.environ, **places, **quick, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        return process

    def download(self, revision: str = "main", commit: str = "", **env: str) -> Result:
        return result(self.start(revision, commit, **env))

    def end(self) -> None:
        for process in self._started:
            process.kill()
            process.communicate()


def result(process: subprocess.Popen[str]) -> Result:
    out, err = process.communicate()
    lines = [json.loads(line) for line in out.splitlines()]
    assert lines, err
    end = lines[-1]
    assert isinstance(end, dict), err
    return Result(lines[:-1], Path(end.get("path", "/nowhere")), end.get("reason", ""), end.get("message", ""), err)


@contextmanager
def machine_at_a_hub(python: Path, home: Path) -> Iterator[Machine]:
    with hub_server.running(Hub()) as hub:
        hub.push(FIRST, {**FILES, **COPIES})
        one = Machine(python, home, hub)
        try:
            yield one
        finally:
            one.end()


def from_xet(
    hub: Hub, storage: str, file_hash: str, content: bytes = WEIGHTS
) -> Callable[[BaseHTTPRequestHandler], bool]:
    """The hub's own server sends large files from another one, by hf_xet."""
    etag = blob("model.safetensors", content)

    def answer(handler: BaseHTTPRequestHandler) -> bool:
        if handler.path == "/xet":
            told = {"Cas-Url": storage, "Access-Token": "t", "Token-Expiration": "4000000000"}
            return send_headers(handler, {f"X-Xet-{name}": value for name, value in told.items()})
        if handler.command != "HEAD" or not handler.path.endswith("/model.safetensors"):
            return False
        linked = {"ETag": f'"{etag}"', "X-Linked-Size": str(len(content))}
        xet = {"X-Xet-Hash": file_hash, "X-Xet-Refresh-Route": f"{hub.url}/xet"}
        return send_headers(handler, {"X-Repo-Commit": hub.find("main"), **linked, **xet})

    return answer
