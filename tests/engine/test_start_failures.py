"""Starts that must fail, with the real engine: the reason, the remedy, and nothing left behind.

All run in one process, which imports SGLang once; each fails before or while its engine comes up.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from engine import patience

from sglang_serve.args import ENV_STATE_DIR, ModelArgs, ServeArgs, to_wire

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).parent / "start_replicas.py"
SECONDS = 300  # for each: imports in three processes are a minute of computing, on two cores that others use too
pytestmark = pytest.mark.timeout(6 * SECONDS)  # five of them start processes

# What the hub answers for a model, by its name; 0: it hangs up. X-Error-Code is how it tells refusals apart.
HUB = {
    "gated": (403, "GatedRepo"),
    "missing": (401, "RepoNotFound"),
    "old": (404, "RevisionNotFound"),
    "sick": (500, ""),
    "away": (0, ""),
}

EXPECTED = {
    "no config": ("ModelNotFound", "config.json"),
    "no weights": ("ModelNotFound", "weights"),
    "unknown type": ("UnsupportedArchitecture", "no_such_type"),
    "unknown class": ("UnsupportedArchitecture", "NoSuchForCausalLM"),
    "unknown argument": ("BadArgument", "no_such_argument"),
    "bad value": ("BadArgument", "no_such_backend"),
    "too large": ("OutOfMemory", "memory"),
    "gated": ("AccessDenied", "gated"),
    "missing": ("ModelNotFound", "tokenSecret"),
    "old": ("ModelNotFound", "revision"),
    "sick": ("DownloadFailed", "500"),
    "away": ("DownloadFailed", "cannot be reached"),
}


class Hub(BaseHTTPRequestHandler):
    """A model hub that refuses."""

    def do_GET(self) -> None:
        name = next((name for name in HUB if f"/org/{name}" in self.path), "missing")
        status, code = HUB[name]
        if status == 0:
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815 - the library's spelling

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(scope="module")
def results(engine_python: Path, tiny_model: Path, hub: str) -> Iterator[Mapping[str, Mapping[str, Any]]]:
    """What came of each start."""
    with tempfile.TemporaryDirectory(prefix="f-") as scratch:
        cases = make_cases(tiny_model, Path(scratch))
        env = {**os.environ, ENV_STATE_DIR: f"{scratch}/s", "PYTHONPATH": f"{ROOT}/images"}
        env |= {"HF_HOME": f"{scratch}/hf", "HF_ENDPOINT": hub, "PYTHONFAULTHANDLER": "1"}
        env.pop("HF_HUB_OFFLINE", None)
        lines = [json.loads(line) for line in run(engine_python, list(cases.values()), env)]
        assert len(lines) == len(cases)
        yield dict(zip(cases, lines, strict=True))


def run(python: Path, cases: list[dict[str, Any]], env: Mapping[str, str]) -> list[bytes]:
    """The lines of start_replicas.py; if it is stuck or fails, the test says where."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
        given.write(json.dumps(cases).encode())
        given.seek(0)
        with subprocess.Popen(
            [python, SCRIPT], stdin=given, stdout=subprocess.PIPE, stderr=said, bufsize=0, env=env
        ) as program:
            try:
                lines = list(patience.lines(program, SECONDS))
            except patience.Stuck as stuck:
                pytest.fail(f"{stuck}, stdout and stderr:\n{patience.tail(said)}")
        assert program.returncode == 0, patience.tail(said)
        return lines


def make_cases(model: Path, scratch: Path) -> dict[str, dict[str, Any]]:
    without = {name: altered(model, scratch / name, name) for name in ("no config", "no weights")}
    configs = {
        "unknown type": altered(model, scratch / "type", "", model_type="no_such_type", architectures=["NoSuch"]),
        "unknown class": altered(model, scratch / "class", "", architectures=["NoSuchForCausalLM"]),
    }
    engines = {
        "unknown argument": {"no_such_argument": 1},
        "bad value": {"attention_backend": "no_such_backend"},
        "too large": {"mem_fraction_static": 1e-9},  # what is left beside the model, for its cache: bytes
    }
    return {
        **{name: case(f"file://{path}") for name, path in {**without, **configs}.items()},
        **{name: case(f"file://{model}", engine=engine) for name, engine in engines.items()},
        **{name: case(f"hf://org/{name}") for name in HUB},
    }


def case(uri: str, **fields: Any) -> dict[str, Any]:
    return to_wire(ServeArgs(endpoint="e", model=ModelArgs(uri=uri), **fields))


def altered(model: Path, target: Path, without: str, **config: Any) -> Path:
    """A copy of the model that lacks a file, or says something else about itself."""
    shutil.copytree(model, target)
    if without:
        (target / {"no config": "config.json", "no weights": "model.safetensors"}[without]).unlink()
    else:
        path = target / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    return target


@pytest.mark.parametrize("name", EXPECTED)
def test_a_failed_start_has_a_reason_that_says_what_to_do(results: Mapping[str, Mapping[str, Any]], name: str) -> None:
    reason, text = EXPECTED[name]
    result = results[name]
    assert result["reason"] == reason, result
    assert text in result["message"] + result["remedy"]
    assert result["remedy"]


@pytest.mark.parametrize("name", EXPECTED)
def test_a_failed_start_leaves_only_its_reason(results: Mapping[str, Mapping[str, Any]], name: str) -> None:
    number = list(EXPECTED).index(name)
    assert results[name]["left"] == [f"r{number}/progress.json"]
