"""`kubectl sglang run` as a user meets it: answers, stops, and what it says when it cannot."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml
from engine.apps import endpoint
from engine.traces import no_trace
from openai import OpenAI
from waiting import wait_until

from sglang_serve.local.ports import free_port

ROOT = Path(__file__).parents[2]
CLI = Path(sys.executable).parent / "kubectl-sglang"
SMOLLM2 = ROOT / "examples" / "smollm2.yaml"
SCALE_TO_ZERO = ROOT / "examples" / "scale-to-zero.yaml"
QUESTION = "What is the capital of France?"
NOBODY = "http://127.0.0.1:9"  # discard: nothing listens there
SECONDS = 560
STEPS = ["ray", "model", "load", "warmup", "ready", "stop"]  # in the order in which a start goes


@pytest.fixture(autouse=True)
def _places(engine_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine environment and a place for logs, as a user's shell has them."""
    monkeypatch.setenv("SGLANG_ENGINE_PYTHON", str(engine_python))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    # A shell's background job ignores Ctrl-C, and so would all that is started from here.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def write(path: Path, *manifests: dict[str, Any]) -> str:
    path.write_text(yaml.safe_dump_all(manifests))
    return str(path)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command to its end, which must leave nothing."""
    with no_trace():
        command = [str(CLI), "run", *arguments]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


class Started:
    """The command while it runs."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self.child = child
        self.said: list[str] = []

    def wait_for(self, beginning: str) -> str:
        """The rest of the line of its progress that begins so."""
        for line in self.child.stderr or ():
            self.said.append(line)
            if line.startswith(beginning):
                return line.removeprefix(beginning).strip()
        raise AssertionError(f"ended without {beginning!r}: {''.join(self.said)}")

    def interrupt(self) -> int:
        """Ctrl-C, as a terminal sends it to the whole group; returns the exit code."""
        os.killpg(self.child.pid, signal.SIGINT)
        return self.child.wait(SECONDS)


@contextmanager
def started(*arguments: str) -> Iterator[Started]:
    """The command in the background; at the end nothing may be left of it."""
    with no_trace():
        child = subprocess.Popen(
            [CLI, "run", *arguments], stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL, process_group=0
        )
        with child:
            try:
                yield Started(child)
            finally:
                child.terminate()  # before Popen's own exit, which waits for it


@pytest.mark.usefixtures("smollm2")
def test_newcomer_gets_an_answer() -> None:
    done = run("-f", str(SMOLLM2), "--once", QUESTION, "--port", str(free_port()))
    require_answer(done)
    steps = [line.split()[0] for line in done.stderr.splitlines()]
    assert steps == sorted(steps, key=STEPS.index)
    assert {"ray", "load", "warmup", "ready"} <= set(steps)


@pytest.mark.long
@pytest.mark.usefixtures("smollm2")
def test_the_first_question_wakes_what_scales_to_zero() -> None:
    require_answer(run("-f", str(SCALE_TO_ZERO), "--once", QUESTION, "--port", str(free_port())))


def require_answer(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stderr
    assert "Paris" in done.stdout
    assert len(done.stdout.splitlines()) == 1, "the answer alone is on stdout"


@pytest.mark.long
def test_two_replicas_serve_until_ctrl_c(tiny_model: Path, tmp_path: Path) -> None:
    manifest = write(tmp_path / "two.yaml", endpoint(tiny_model, "two", replicas=2))
    port = free_port()
    with started("-f", manifest, "--port", str(port)) as command:
        url = "http://" + command.wait_for("ready    http://")  # the replicas' own step "ready" comes before it
        assert status_of(command.wait_for("try ")) == "200"
        log = Path(command.wait_for("log"))
        assert url == f"http://127.0.0.1:{port}/v1"
        with OpenAI(base_url=url, api_key="none") as client, ThreadPoolExecutor(8) as pool:
            wait_until(lambda: ask_all(pool, client) and len(replicas_that_answered(log)) == 2, 30, "both answer")
        assert command.interrupt() == 130
    with socket.create_server(("127.0.0.1", port)):
        pass  # the port is free again


@pytest.mark.long
def test_two_endpoints_serve_at_once_each_on_its_port(tiny_model: Path, tmp_path: Path) -> None:
    ports = {name: free_port() for name in ("one", "other")}
    files = [argument for name in ports for argument in ("-f", write(tmp_path / name, endpoint(tiny_model, name)))]
    given = [argument for name, port in ports.items() for argument in ("--port", f"{name}={port}")]
    with started(*files, *given) as command:
        for name in ports:
            command.wait_for(f"{name}: ready    http://")
        served = {name: [one["id"] for one in get(port, "/v1/models").json()["data"]] for name, port in ports.items()}
        assert served == {name: [name] for name in ports}
        assert command.interrupt() == 130


def get(port: int, path: str) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=60).raise_for_status()


def status_of(curl: str) -> str:
    """The printed command, in a shell as a user has it; what is added only shows the status."""
    shell = ["bash", "-c", f"{curl} --fail --silent --show-error --output /dev/null --write-out '%{{http_code}}'"]
    return subprocess.run(shell, capture_output=True, text=True, timeout=60, check=True).stdout


def ask(client: OpenAI) -> None:
    message = {"role": "user", "content": QUESTION}
    reply = client.chat.completions.create(model="two", messages=[message], max_tokens=8)  # type: ignore[list-item]
    assert reply.usage
    assert reply.usage.completion_tokens > 0


def ask_all(pool: ThreadPoolExecutor, client: OpenAI) -> bool:
    return len(list(pool.map(lambda _: ask(client), range(16)))) == 16


def replicas_that_answered(log: Path) -> set[str]:
    lines = re.findall(r"\{.*\"event\":\"request\".*\}", log.read_text())
    return {line["replica"] for line in map(json.loads, lines) if line["path"] == "/v1/chat/completions"}


def test_ctrl_c_while_loading(tiny_model: Path, tmp_path: Path) -> None:
    manifest = write(tmp_path / "e.yaml", endpoint(tiny_model))
    with started("-f", manifest, "--port", str(free_port())) as command:
        command.wait_for("load")
        assert command.interrupt() == 130


@pytest.mark.parametrize(
    ("uri", "reason", "said"),
    [
        ("file:///nope", "ModelNotFound", "there is no directory /nope"),
        ("hf://nobody/nothing", "DownloadFailed", NOBODY),
    ],
)
def test_model_that_cannot_be_had(
    uri: str, reason: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", NOBODY)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    done = run("-f", write(tmp_path / "e.yaml", endpoint(uri)), "--port", str(free_port()))
    assert done.returncode == 3, done.stderr
    assert said in done.stderr
    assert reason in done.stderr
    assert done.stderr.count("error:") == 1
    assert "remedy: " in done.stderr
    assert "Traceback" not in done.stderr


def test_port_in_use(tiny_model: Path, tmp_path: Path) -> None:
    manifest = write(tmp_path / "e.yaml", endpoint(tiny_model))
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = run("-f", manifest, "--port", str(port))
    assert done.returncode == 3
    assert done.stderr.splitlines() == [
        f"error: port {port} is in use by {psutil.Process().name()} (pid {os.getpid()}) (PortInUse)",
        "  remedy: end that process, or choose another --port",
    ]


REFUSED = {
    "no such argument": (endpoint("hf://o/m", engine={"args": {"mem_fraction": 1}}), [], 1, "mem_fraction_static"),
    "no engine environment": (endpoint("hf://o/m"), ["--python", "/bin/sh"], 1, "make engine"),
    "an environment without Ray": (endpoint("hf://o/m"), ["--python", sys.executable], 1, "lacks ray, sglang"),
    "no such port": (endpoint("hf://o/m"), ["--port", "http"], 2, "1 to 65535"),
    "stopped": (endpoint("hf://o/m", replicas=0), [], 1, "set spec.replicas: 1"),
    "no accelerator": (endpoint("hf://o/m", accelerator={"vendor": "amd"}), [], 1, "this machine has 0"),
    "a doubtful argument": (
        endpoint(
            "hf://o/m",
            engine={"image": "r/i:1", "args": {"new": 1}, "argsCheck": "Warn"},
            accelerator={"vendor": "amd"},
        ),
        [],
        1,
        "warning: tiny: spec.engine.args.new: ",
    ),
    "keys": (endpoint("hf://o/m", api={"keysSecret": {"name": "k"}}), [], 1, "--keys-dir"),
    "claim": (endpoint("pvc://c/m"), [], 1, "--pvc-root"),
    "no chat": (endpoint("hf://o/m", task="embed"), ["--once", QUESTION], 1, "task generate"),
    "unknown field": (endpoint("hf://o/m", replica=2), [], 1, "spec.replica: "),
    "wrong type": (endpoint("hf://o/m", replicas="two"), [], 1, "spec.replicas: "),
    "negative count": (
        endpoint("hf://o/m", accelerator={"vendor": "nvidia", "count": -1}),
        [],
        1,
        "spec.accelerator.count: ",
    ),
    "a name of 39 characters": (endpoint("hf://o/m", "x" * 39), [], 1, "metadata.name: "),
    "ranks that do not fit": (
        endpoint("hf://o/m", accelerator={"vendor": "nvidia", "count": 2}, parallelism={"tensor": 3}),
        [],
        1,
        "spec.parallelism",
    ),
}


@pytest.mark.long
def test_what_sglangs_app_needs_is_missing_though_the_engine_is_warm(tiny_model: Path, tmp_path: Path) -> None:
    """SGLang asks its tool server when its app begins, after the model is loaded: that, too, is a failed start."""
    args = {"max_total_tokens": 4096, "tool_server": "127.0.0.1:1"}
    done = run("-f", write(tmp_path / "e.yaml", endpoint(tiny_model, engine={"args": args})))
    assert done.returncode == 3, done.stderr
    (log,) = re.findall(r"log: (.*)", done.stderr)
    assert "answering a first request" in Path(log).read_text()
    assert "ready" not in done.stderr
    assert "remedy: " in done.stderr


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_anything_starts(case: str, tmp_path: Path) -> None:
    manifest, arguments, code, said = REFUSED[case]
    done = run("-f", write(tmp_path / "e.yaml", manifest), *arguments)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert said in done.stderr
    assert ("remedy: " if code == 1 else "run --help") in done.stderr, "every refusal says what to do"
    assert done.stderr.lower().count("error: ") == 1, "one clear message"
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "state").exists(), "nothing was started"


def test_several_endpoints_need_a_port_each(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{name}.yaml", endpoint("hf://o/m", name)) for name in ("a", "b")]
    done = run("-f", files[0], "-f", files[1])
    assert done.returncode == 2
    assert "use --port a=8000 --port b=8001" in done.stderr
