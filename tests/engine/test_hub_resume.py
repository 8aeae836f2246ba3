"""What a killed or failed download has of a file is not downloaded again."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from engine.hub_machine import FILES, SECOND, WEIGHTS, Machine, from_xet, result
from engine.hub_server import Hub, blob, is_file, refuse, send_part
from waiting import wait_until

HALF = len(WEIGHTS) // 2
NAMES = Path(__file__).parent / "hub_names.py"
REMEDY = """
Read how huggingface_hub downloads a file now, adapt images/sglang_serve/hub_resume.py, then hub_names.py here.
"""
# Into a storage of hf_xet that is a directory: its files, each with what comes before it, prints the last one's hash.
STORE = """
import sys
from hf_xet import XetSession
for path in sys.argv[2:]:
    with XetSession().new_upload_commit(endpoint=sys.argv[1]) as commit:
        done = commit.start_upload_file(path)
print(done.result().xet_info.hash)
"""


def ranges(hub: Hub) -> list[str]:
    """Of each time that the weights were asked for."""
    return [one.rpartition(" ")[2] for one in hub.asked if one.startswith("GET") and "/model.safetensors" in one]


def partial(machine: Machine) -> list[Path]:
    """What there is of large files, which have a sha256 for a name."""
    return [path for path in machine.blobs.glob(f"{'?' * 64}.*.incomplete") if path.stat().st_size]


def start_and_stall(machine: Machine, over: threading.Event) -> subprocess.Popen[str]:
    """A download that has half of the weights on its disk. Others are answered."""
    held = threading.Event()

    def stall_first(handler: BaseHTTPRequestHandler) -> bool:
        if held.is_set() or not is_file(handler, "model.safetensors"):
            return False
        held.set()
        send_part(handler, WEIGHTS, HALF)
        return over.wait(60)

    machine.hub.spoil = stall_first
    process = machine.start(HF_HUB_DOWNLOAD_TIMEOUT="60")
    wait_until(lambda: [path.stat().st_size for path in partial(machine)] == [HALF], 60, "half of the weights")
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.fixture
def left(machine: Machine) -> Path:
    """Half of the weights, as a killed process leaves it."""
    return leave(machine, WEIGHTS, HALF)


def leave(machine: Machine, content: bytes, until: int) -> Path:
    machine.blobs.mkdir(parents=True)
    path = machine.blobs / f"{blob('model.safetensors', content)}.0123abcd.incomplete"
    path.write_bytes(content[:until])
    return path


def test_the_next_process_goes_on_where_the_killed_one_stopped(machine: Machine, hub: Hub) -> None:
    over = threading.Event()
    kill(start_and_stall(machine, over))
    over.set()
    hub.spoil = lambda handler: is_file(handler, "model.safetensors") and threading.Event().wait(0.3)
    done = machine.download()
    assert (done.files, ranges(hub)) == (FILES, ["", f"bytes={HALF}-"])
    assert not [*machine.blobs.glob("*.incomplete")]
    shares = [line for line in done.said if " of 2.0 MiB" in line]
    assert ": 1.0 MiB of" in shares[0], shares


def test_one_that_waits_for_it_goes_on_when_the_one_that_downloads_is_killed(machine: Machine, hub: Hub) -> None:
    over = threading.Event()
    first = start_and_stall(machine, over)
    second = machine.start()
    assert second.stdout
    while "downloading" not in second.stdout.readline():
        pass
    kill(first)
    done = result(second)
    over.set()
    assert (done.files, ranges(hub)) == (FILES, ["", f"bytes={HALF}-"])


def test_a_download_that_failed_is_gone_on_with(machine: Machine, hub: Hub) -> None:
    answers = iter(
        (lambda handler: bool(send_part(handler, WEIGHTS, HALF)) or True, lambda handler: refuse(handler, 500))
    )
    hub.spoil = lambda handler: is_file(handler, "model.safetensors") and next(answers)(handler)
    assert machine.download().reason == "DownloadFailed"
    hub.spoil = None
    assert machine.download().files == FILES
    assert ranges(hub) == ["", f"bytes={HALF}-", f"bytes={HALF}-"]


def test_of_another_revision_nothing_is_gone_on_with(machine: Machine, hub: Hub, left: Path) -> None:
    other = {**FILES, "model.safetensors": WEIGHTS[::-1]}
    hub.push(SECOND, other)
    done = machine.download()
    assert (done.files, ranges(hub)) == (other, [""])
    assert not left.exists()


def test_a_part_that_is_not_right_is_no_model(machine: Machine, hub: Hub, left: Path) -> None:
    left.write_bytes(b"x" * HALF)
    done = machine.download()
    assert (done.files, ranges(hub)) == (FILES, [f"bytes={HALF}-", ""])
    assert not [*machine.blobs.glob("*.incomplete")]


def all_of_it(handler: BaseHTTPRequestHandler) -> bool:
    del handler.headers["Range"]
    return False


def not_from_there(handler: BaseHTTPRequestHandler) -> bool:
    return bool(handler.headers["Range"]) and refuse(handler, 416)


@pytest.mark.parametrize("spoil", [all_of_it, not_from_there])
def test_a_server_without_ranges_sends_all_of_it(
    machine: Machine, hub: Hub, left: Path, spoil: Callable[[BaseHTTPRequestHandler], bool]
) -> None:
    hub.spoil = spoil
    assert machine.download().files == FILES
    assert ranges(hub)[0] == f"bytes={HALF}-", "nothing is shown"


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    (tmp_path / "storage").mkdir()
    return tmp_path / "storage"


def store(engine_python: Path, storage: Path, *files: bytes) -> str:
    """Into a storage of hf_xet. Returns the hash of the last one."""
    paths = [storage / f"file-{number}" for number in range(len(files))]
    for path, content in zip(paths, files, strict=True):
        path.write_bytes(content)
    done = subprocess.run(
        [engine_python, "-c", STORE, f"local://{storage}", *paths], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_file_in_xet_storage_is_gone_on_with(engine_python: Path, machine: Machine, hub: Hub, storage: Path) -> None:
    """The storage has lost the front of the file, which nobody needs who has it."""
    content = os.urandom(2 * len(WEIGHTS))
    file_hash = store(engine_python, storage, content[: len(WEIGHTS)], content)
    hub.push(SECOND, {**FILES, "model.safetensors": content})
    hub.spoil = from_xet(hub, f"local://{storage}", file_hash, content)
    front = min(storage.rglob("default.*[0-9a-f]"), key=lambda path: path.stat().st_mtime)
    front.rename(storage / "away")
    leave(machine, content, len(content) * 3 // 4)
    done = machine.download()
    assert done.reason == "", done
    assert done.files["model.safetensors"] == content
    assert ranges(hub) == []


def test_a_part_of_a_file_in_xet_storage_that_is_not_right(
    engine_python: Path, machine: Machine, hub: Hub, storage: Path, left: Path
) -> None:
    hub.spoil = from_xet(hub, f"local://{storage}", store(engine_python, storage, WEIGHTS))
    left.write_bytes(b"x" * HALF)
    assert machine.download().files == FILES
    assert ranges(hub) == []


@pytest.mark.long  # of a size that is killed in the middle
def test_a_killed_download_from_xet_storage_leaves_the_front_of_the_file(
    engine_python: Path, machine: Machine, hub: Hub, storage: Path
) -> None:
    content = os.urandom(256 * 2**20)
    file_hash = store(engine_python, storage, content)
    hub.push(SECOND, {"model.safetensors": content})
    hub.spoil = from_xet(hub, f"local://{storage}", file_hash, content)
    patient = {"HF_HUB_ETAG_TIMEOUT": "60"}  # this hub hashes its files for each listing
    process = machine.start(**patient)
    wait_until(lambda: partial(machine), 60, "a part", step=0.001)
    kill(process)
    (left,) = partial(machine)
    part = left.read_bytes()
    assert (part == content[: len(part)], len(part) < len(content)) == (True, True)
    done = machine.download(**patient)
    assert done.files == {"model.safetensors": content}
    first = next(line for line in done.said if " of 256.0 MiB" in line)
    assert ": 0 B of" not in first, first


def test_the_installed_client_has_what_this_relies_on(engine_python: Path) -> None:
    done = subprocess.run([engine_python, NAMES], capture_output=True, text=True, timeout=120, check=False)
    found = [line for line in done.stdout.splitlines() if line.startswith("difference:")]
    if done.returncode or found:
        pytest.fail("\n".join(["this huggingface_hub differs:", *found, done.stderr[-1500:], REMEDY]))
