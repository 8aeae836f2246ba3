"""The course of a run, with a script in place of the engine environment's Python: exit codes, stop, what is shown."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CLI = Path(sys.executable).parent / "kubectl-sglang"
SECONDS = 30

# Asked what it lacks it says nothing; as the client it answers; as the runner it says EVENTS, then waits UNTIL it has
# so many signals, or stdin is closed, or it is killed after that, or not at all.
STAND_IN = f"""#!{sys.executable} -S
import json, os, signal, sys
if "-c" in sys.argv:
    sys.exit()
if "sglang_serve.local.ask" in sys.argv:
    print(sys.argv[-1], os.environ["OPENAI_API_KEY"])
    sys.exit(int(os.environ["ASK_CODE"]))
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
json.loads(sys.stdin.readline())
print("a line of the log", file=sys.stderr, flush=True)
for event in os.environ["EVENTS"].splitlines():
    print(event, flush=True)
until = os.environ["UNTIL"]
if until in ("closed", "killed"):
    sys.stdin.read()
if until == "killed":
    print("asked to end", file=sys.stderr, flush=True)
    signal.pause()
for number in range(int(until) if until.isdecimal() else 0):
    signal.sigwait([signal.SIGINT])
    print(json.dumps({{"event": "progress", "step": "stop", "message": f"signal {{number}}"}}), flush=True)
"""
LOAD = '{"event": "progress", "step": "load", "message": "loading"}\n'
READY = LOAD + '{"event": "ready", "url": "http://127.0.0.1:8000"}\n'
FAILED = LOAD + '{"event": "failed", "reason": "OutOfMemory", "message": "too large", "remedy": "less"}\n'


class Command:
    """`kubectl sglang run` on the example."""

    def __init__(self, env: dict[str, str], *arguments: str) -> None:
        command = [str(CLI), "run", "-f", str(ROOT / "examples" / "smollm2.yaml"), *arguments]
        self.child = subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.said = ""

    def read_to(self, text: str) -> None:
        """Read its progress up to the line that holds `text`."""
        for line in self.child.stderr or ():
            self.said += line
            if text in line:
                return
        raise AssertionError(f"ended without {text!r}: {self.said}")

    def end(self) -> tuple[int, str, str]:
        """Exit code, stdout and progress."""
        out, err = self.child.communicate(timeout=SECONDS)
        return self.child.returncode, out, self.said + err


Run = Callable[..., Command]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Starts the command; settings are those of the stand-in."""
    python = tmp_path / "python"
    python.write_text(STAND_IN)
    python.chmod(0o755)
    env = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state"), "SGLANG_ENGINE_PYTHON": str(python)}
    started: list[Command] = []

    def start(*arguments: str, events: str, until: str = "", ask_code: int = 0) -> Command:
        settings = {"EVENTS": events, "UNTIL": until, "ASK_CODE": str(ask_code)}
        started.append(Command({**env, **settings}, *arguments))
        return started[-1]

    yield start
    for command in started:
        command.child.kill()
        command.child.communicate(timeout=SECONDS)


def test_answer_alone_is_on_stdout(run: Run) -> None:
    assert run("--once", "Where?", events=READY, until="closed").end() == (0, "Where? none\n", "load     loading\n")


@pytest.mark.parametrize("ask_code", [0, 1], ids=["answered", "not answered"])
def test_ctrl_c_while_it_ends_after_the_answer(run: Run, tmp_path: Path, ask_code: int) -> None:
    command = run("--once", "Where?", events=READY, until="killed", ask_code=ask_code)
    log = tmp_path / "state" / "sglang-operator" / "smollm2-8000.log"
    deadline = time.monotonic() + SECONDS
    while not (log.exists() and "asked to end" in log.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    command.child.send_signal(signal.SIGINT)
    code, out, said = command.end()
    assert (code, out) == (130, "Where? none\n")
    assert "stopping at once" in said
    assert "Traceback" not in said


def test_question_that_fails(run: Run) -> None:
    code, _, said = run("--once", "Where?", events=READY, until="closed", ask_code=1).end()
    assert code == 3
    assert "error: the question was not answered" in said


def test_question_with_a_key(run: Run, tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "team-b").write_text("second")
    (tmp_path / "keys" / "team-a").write_text("first\n")
    (tmp_path / "keys" / "a-empty").touch()
    (tmp_path / "keys" / ".gitignore").write_text("*")  # no key for the replica either
    keys = ["--keys-dir", str(tmp_path / "keys")]
    assert run("--once", "Where?", *keys, events=READY, until="closed").end()[1] == "Where? first\n"


def test_ready_then_ctrl_c(run: Run, tmp_path: Path) -> None:
    command = run(events=READY, until="1")
    command.read_to("stop ")
    command.child.send_signal(signal.SIGINT)
    code, out, said = command.end()
    assert (code, out) == (130, "")
    assert said.splitlines()[1] == "ready    http://127.0.0.1:8000/v1"
    assert "curl http://127.0.0.1:8000/v1/chat/completions" in said
    assert f"log      {tmp_path}/state/sglang-operator/smollm2-8000.log" in said
    assert "stop     signal 0 (Ctrl-C again: at once)" in said


def test_second_ctrl_c_is_passed_on(run: Run) -> None:
    command = run(events=READY, until="2")
    command.read_to("stop ")
    command.child.send_signal(signal.SIGINT)
    command.read_to("signal 0")
    command.child.send_signal(signal.SIGINT)
    code, _, said = command.end()
    assert code == 130
    assert "stopping at once" in said


def test_sigterm_stops_it_too(run: Run) -> None:
    command = run(events=LOAD, until="1")
    command.read_to("load")
    command.child.terminate()
    assert command.end()[0] == 130


def test_failure(run: Run, tmp_path: Path) -> None:
    code, out, said = run(events=FAILED).end()
    assert (code, out) == (3, "")
    assert said.splitlines() == [
        "load     loading",
        "error: too large (OutOfMemory)",
        "  remedy: less",
        f"  log: {tmp_path}/state/sglang-operator/smollm2-8000.log",
    ]


def test_runner_that_just_ends(run: Run) -> None:
    code, _, said = run(events=LOAD).end()
    assert code == 3
    assert "error: the runner ended with code 0" in said


def test_log_is_followed(run: Run) -> None:
    command = run("--follow", events=READY, until="1")
    command.read_to("a line of the log")
    command.child.send_signal(signal.SIGINT)
    assert command.end()[0] == 130


def test_several_endpoints_are_told_apart(run: Run, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text((ROOT / "examples" / "smollm2.yaml").read_text().replace("name: smollm2", "name: other"))
    command = run("-f", str(other), "-p", "smollm2=8000", "-p", "other=8001", events=READY, until="1")
    command.read_to("other: ready")
    command.child.send_signal(signal.SIGINT)
    code, _, said = command.end()
    assert code == 130
    assert "smollm2: ready" in said
