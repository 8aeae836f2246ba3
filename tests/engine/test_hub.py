"""Downloads from a model hub by its own client, each in a process of the engine environment."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler

import pytest
from engine.hub_machine import FILES, FIRST, SECOND, WEIGHTS, Machine, from_xet
from engine.hub_server import REPOSITORY, Hub, is_file, refuse, send_part, send_redirect, slow

from sglang_serve.local.ports import free_port

SLOWLY = slow("model.safetensors", pieces=16, seconds=0.1)


def always(status: int, code: str = "") -> Callable[[BaseHTTPRequestHandler], bool]:
    return lambda handler: refuse(handler, status, code)


def test_the_files_that_an_engine_needs_with_progress(machine: Machine, hub: Hub) -> None:
    hub.spoil = SLOWLY
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
    hub.spoil = SLOWLY
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


def test_a_copy_in_the_cache_outlives_its_commit(machine: Machine, hub: Hub) -> None:
    """Somebody has rewritten the branch, and a revision of the endpoint is held to what it was."""
    first = machine.download(commit=FIRST)
    del hub.commits[FIRST]
    hub.push(SECOND, FILES)
    again = machine.download(commit=FIRST)
    assert (again.path, again.reason) == (first.path, "")
    assert machine.download(commit="3" * 40).reason == "ModelNotFound"


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


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_that_a_failed_node_cut_off_is_no_copy(machine: Machine, hub: Hub, name: str) -> None:
    path = machine.download().path
    os.truncate((path / name).resolve(), 1)
    hub.spoil = always(503)
    assert machine.download().reason == "DownloadFailed"
    hub.spoil = None
    assert machine.download().files == FILES


def test_half_a_copy_of_a_client_that_keeps_no_listing_is_not_served(machine: Machine, hub: Hub) -> None:
    snapshot = machine.blobs.parent / "snapshots" / FIRST
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").touch()
    hub.spoil = always(503)
    assert machine.download(FIRST).reason == "DownloadFailed"
    (snapshot / "model.safetensors").touch()
    assert machine.download(FIRST).path == snapshot


@pytest.mark.parametrize("status", [401, 403, 503])
def test_a_storage_that_refuses_a_signed_address(machine: Machine, hub: Hub, status: int) -> None:
    """It has expired, and another try gets another one. What it was signed with is nobody's business."""
    asked: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> bool:
        if "/storage" in handler.path:
            asked.append(handler.path)
            return refuse(handler, status)
        if not handler.path.endswith("/model.safetensors"):
            return False
        signed = f"{hub.url.replace('127.0.0.1', 'localhost')}/storage?X-Amz-Expires=1&X-Amz-Signature=SECRET"
        return send_redirect(handler, signed, "model.safetensors", WEIGHTS)

    hub.spoil = answer
    done = machine.download()
    assert any("SECRET" in one for one in asked), "nothing is shown"
    assert (done.reason, "/storage" in done.message) == ("DownloadFailed", True)
    assert "SECRET" not in f"{done}"


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
    hub.spoil = from_xet(hub, f"http://127.0.0.1:{free_port()}", "a" * 64)
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
    hub.spoil = SLOWLY
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: machine.download(), range(2))
    assert first.path == second.path
    assert first.files == FILES
    assert hub.count("GET", "model.safetensors") == 1
