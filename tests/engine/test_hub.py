"""Downloads from a model hub by its own client, each in a process of the engine environment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from engine import hub_server
from engine.hub_server import REPOSITORY, Hub, blob, is_file, refuse, send_headers, send_part

from sglang_serve.local.ports import free_port

IMAGES = Path(__file__).parents[2] / "images"
FIRST, SECOND = "1" * 40, "2" * 40
WEIGHTS = bytes(range(256)) * 8192  # 2 MiB
FILES = {"config.json": b"{}", "model.safetensors": WEIGHTS, "sub/tokenizer.json": b"[]"}
COPIES = {"pytorch_model.bin": b"the same again", "original/consolidated.00.pth": b"and again"}
# What models.fetch does, in a process of its own; each line it prints is news, the last one its end.
PROGRAM = """
import json, sys
from sglang_serve import hub, progress
from sglang_serve.errors import StartError
progress.DOWNLOAD_SECONDS = 0.05
hub.constants.DOWNLOAD_CHUNK_SIZE = 2**16  # what the client reads before it writes; 10 MiB otherwise
say = lambda what: print(json.dumps(what), flush=True)
try:
    print(json.dumps({"path": str(getattr(hub, sys.argv[1])(*json.loads(sys.argv[2]), say=say))}))
except StartError as error:
    print(json.dumps({"reason": error.reason, "message": error.message, "remedy": error.remedy}))
"""


@dataclass(frozen=True)
class Result:
    """What came of a download."""

    said: Sequence[str]
    path: Path
    reason: str
    message: str

    @property
    def files(self) -> dict[str, bytes]:
        return {str(one.relative_to(self.path)): one.read_bytes() for one in self.path.rglob("*") if one.is_file()}


class Machine:
    """One that has a cache and reaches the hub."""

    def __init__(self, python: Path, home: Path, hub: Hub) -> None:
        self._python, self._home, self._hub = python, home, hub
        self._started: list[subprocess.Popen[str]] = []

    @property
    def blobs(self) -> Path:
        return self._home / "hub" / f"models--{REPOSITORY.replace('/', '--')}" / "blobs"

    def start(self, revision: str = "main", commit: str = "", **env: str) -> subprocess.Popen[str]:
        return self._call("download", [REPOSITORY, revision, commit], env)

    def resolve(self, revision: str = "main") -> Result:
        return result(self._call("resolve", [REPOSITORY, revision, "auto"], {}))

    def _call(self, name: str, arguments: list[str], env: dict[str, str]) -> subprocess.Popen[str]:
        places = {"HF_HOME": str(self._home), "HF_ENDPOINT": self._hub.url, "PYTHONPATH": str(IMAGES)}
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
    return Result(lines[:-1], Path(end.get("path", "/nowhere")), end.get("reason", ""), end.get("message", ""))


@pytest.fixture
def hub() -> Iterator[Hub]:
    with hub_server.running(Hub()) as one:
        one.push(FIRST, {**FILES, **COPIES})
        yield one


@pytest.fixture
def machine(engine_python: Path, tmp_path: Path, hub: Hub) -> Iterator[Machine]:
    one = Machine(engine_python, tmp_path / "home", hub)
    yield one
    one.end()


def always(status: int, code: str = "") -> Callable[[BaseHTTPRequestHandler], bool]:
    return lambda handler: refuse(handler, status, code)


def slowly(handler: BaseHTTPRequestHandler) -> bool:
    """The weights in sixteen pieces, 0.1 s each."""
    if not is_file(handler, "model.safetensors"):
        return False
    piece = len(WEIGHTS) // 16
    send_part(handler, WEIGHTS, piece)
    for start in range(piece, len(WEIGHTS), piece):
        time.sleep(0.1)
        handler.wfile.write(WEIGHTS[start : start + piece])
    return True


def test_the_files_that_an_engine_needs_with_progress(machine: Machine, hub: Hub) -> None:
    hub.spoil = slowly
    done = machine.download()
    assert done.files == FILES
    assert done.path.name == FIRST
    assert done.said[0].startswith(f"asking {hub.url} for {REPOSITORY}")
    shares = [line for line in done.said if " of 2.0 MiB" in line]
    assert len(set(shares)) > 3, done.said
    assert hub.count("GET", "pytorch_model.bin") == 0


def test_the_progress_of_a_second_revision_is_its_own(machine: Machine, hub: Hub) -> None:
    machine.download()
    hub.push(SECOND, {**FILES, "model.safetensors": WEIGHTS[::-1]})
    hub.spoil = slowly
    done = machine.download()
    assert done.path.name == SECOND
    assert not [line for line in done.said if line.startswith("downloading") and ": 4.0 MiB of" in line]
    sizes = [line.rpartition(": ")[2] for line in done.said if " of 2.0 MiB" in line]
    assert not {"2.1 MiB of 2.0 MiB", "3.0 MiB of 2.0 MiB", "4.0 MiB of 2.0 MiB"} & set(sizes), sizes


@pytest.mark.parametrize("revision", ["main", FIRST])
@pytest.mark.parametrize("status", [429, 503])
def test_a_copy_in_the_cache_outlives_the_hub(machine: Machine, hub: Hub, revision: str, status: int) -> None:
    first = machine.download(revision)
    hub.spoil = always(status)
    again = machine.download(revision)
    assert (again.path, again.reason) == (first.path, "")
    assert "serving the copy" in again.said[-1]


def test_a_copy_in_the_cache_outlives_the_connection(machine: Machine, hub: Hub) -> None:
    first = machine.download()
    again = machine.download(HF_ENDPOINT="http://127.0.0.1:9")
    assert again.path == first.path, again


def test_a_branch_is_a_commit(machine: Machine, hub: Hub) -> None:
    assert machine.resolve().path.name == FIRST
    assert machine.resolve("no-such-branch").reason == "ModelNotFound"
    machine.download()
    hub.push(SECOND, FILES)
    assert machine.resolve().path.name == SECOND
    hub.spoil = always(503)
    away = machine.resolve()
    assert away.path.name == FIRST, away  # what there is a copy of
    assert machine.resolve(SECOND).path.name == SECOND  # nobody has to be asked


def test_a_commit_that_was_agreed_on_counts_more_than_the_branch(machine: Machine, hub: Hub) -> None:
    hub.push(SECOND, {"config.json": b"[]"})
    assert machine.download("main", FIRST).path.name == FIRST
    hub.spoil = always(503)
    assert machine.download("main", FIRST).path.name == FIRST
    assert machine.download("main", SECOND).reason == "DownloadFailed"


@pytest.mark.parametrize("status", [429, 503])
def test_a_hub_that_fails_and_no_copy(machine: Machine, hub: Hub, status: int) -> None:
    hub.spoil = always(status)
    done = machine.download()
    assert (done.reason, str(status) in done.message) == ("DownloadFailed", True)


def test_half_a_copy_is_not_served(machine: Machine, hub: Hub) -> None:
    hub.spoil = lambda handler: is_file(handler, "model.safetensors") and refuse(handler, 500)
    assert machine.download().reason == "DownloadFailed"
    hub.spoil = always(503)
    assert machine.download().reason == "DownloadFailed"


def test_a_connection_that_breaks_is_taken_up_where_it_stopped(machine: Machine, hub: Hub) -> None:
    broken: list[int] = []

    def once(handler: BaseHTTPRequestHandler) -> bool:
        if broken or not is_file(handler, "model.safetensors"):
            return False
        broken.append(send_part(handler, WEIGHTS, len(WEIGHTS) // 2))
        return True

    hub.spoil = once
    assert machine.download().files == FILES
    (second,) = [one for one in hub.asked if "model.safetensors bytes=" in one]
    assert f"bytes={len(WEIGHTS) // 2}-" in second


@pytest.mark.parametrize("what", ["/revision/", "/tree/", "model.safetensors"])
def test_a_hub_that_stalls_is_not_waited_for(machine: Machine, hub: Hub, what: str) -> None:
    over = threading.Event()
    hub.spoil = lambda handler: handler.command == "GET" and what in handler.path and over.wait(100)
    began = time.monotonic()
    done = machine.download()
    over.set()
    assert done.reason == "DownloadFailed"
    assert time.monotonic() - began < 60


def needs_token(handler: BaseHTTPRequestHandler) -> bool:
    given = handler.headers.get("Authorization", "")
    if given == "Bearer right":
        return False
    return refuse(handler, 403 if given else 401, "GatedRepo")


@pytest.mark.long  # hf_xet tries for minutes
@pytest.mark.timeout(900)
def test_a_storage_of_large_files_that_does_not_answer(machine: Machine, hub: Hub) -> None:
    """The hub's own server sends large files from another one, by hf_xet."""

    def from_nowhere(handler: BaseHTTPRequestHandler) -> bool:
        if handler.path == "/xet":
            told = {"Cas-Url": f"http://127.0.0.1:{free_port()}", "Access-Token": "t", "Token-Expiration": "4000000000"}
            return send_headers(handler, {f"X-Xet-{name}": value for name, value in told.items()})
        if handler.command != "HEAD" or not handler.path.endswith("/model.safetensors"):
            return False
        content = {"ETag": f'"{blob("model.safetensors", WEIGHTS)}"', "X-Linked-Size": str(len(WEIGHTS))}
        xet = {"X-Xet-Hash": "a" * 64, "X-Xet-Refresh-Route": f"{hub.url}/xet"}
        return send_headers(handler, {"X-Repo-Commit": FIRST, **content, **xet})

    hub.spoil = from_nowhere
    found = machine.download()
    assert hub.count("GET", "/xet"), "the client did not ask there: nothing is shown"
    assert found.reason == "DownloadFailed", found
    hub.spoil = None
    assert machine.download().files == FILES


def test_a_gated_model_needs_the_right_token(machine: Machine, hub: Hub) -> None:
    hub.spoil = needs_token
    assert machine.download().reason == "AccessDenied"
    assert machine.download(HF_TOKEN="wrong").reason == "AccessDenied"
    assert machine.download(HF_TOKEN="right").files == FILES


def test_a_right_that_is_withdrawn_counts_more_than_a_copy(machine: Machine, hub: Hub) -> None:
    machine.download()
    hub.spoil = always(403, "GatedRepo")
    assert machine.download().reason == "AccessDenied"


def test_what_is_not_there(machine: Machine, hub: Hub) -> None:
    absent = machine.download("no-such-branch")
    assert (absent.reason, "no revision 'no-such-branch'" in absent.message) == ("ModelNotFound", True)
    hub.spoil = always(404, "RepoNotFound")
    assert machine.download().reason == "ModelNotFound"


def test_two_replicas_download_each_file_once(machine: Machine, hub: Hub) -> None:
    hub.spoil = slowly
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: machine.download(), range(2))
    assert first.path == second.path
    assert first.files == FILES
    assert hub.count("GET", "model.safetensors") == 1


def test_another_goes_on_when_the_one_that_downloads_is_killed(machine: Machine, hub: Hub) -> None:
    over, held = threading.Event(), threading.Event()

    def stall_first(handler: BaseHTTPRequestHandler) -> bool:
        if held.is_set() or not is_file(handler, "model.safetensors"):
            return False
        send_part(handler, WEIGHTS, len(WEIGHTS) // 2)
        held.set()
        return over.wait(60)

    hub.spoil = stall_first
    first = machine.start(HF_HUB_DOWNLOAD_TIMEOUT="60")
    assert held.wait(60)
    second = machine.start()
    assert second.stdout
    while "downloading" not in second.stdout.readline():
        pass
    first.send_signal(signal.SIGKILL)
    done = result(second)
    over.set()
    assert done.files == FILES


def test_what_a_killed_download_left_is_removed(machine: Machine, hub: Hub) -> None:
    over, held = threading.Event(), threading.Event()

    def stall(handler: BaseHTTPRequestHandler) -> bool:
        if not is_file(handler, "model.safetensors"):
            return False
        send_part(handler, WEIGHTS, len(WEIGHTS) // 2)
        held.set()
        return over.wait(60)

    hub.spoil = stall
    first = machine.start(HF_HUB_DOWNLOAD_TIMEOUT="60")
    assert held.wait(60)
    first.send_signal(signal.SIGKILL)
    first.wait()
    over.set()
    hub.spoil = None
    assert [*machine.blobs.glob("*.incomplete")]
    assert machine.download().files == FILES
    assert not [*machine.blobs.glob("*.incomplete")]
