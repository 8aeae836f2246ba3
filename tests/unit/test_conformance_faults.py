"""A lost engine that is not replaced, or that stays, fails the check; that a good endpoint passes, the reports show."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import httpx
import psutil
import pytest
from unit.test_conformance_checks import client

from sglang_serve.conformance import checks, faults
from sglang_serve.conformance.outcome import Failed
from sglang_serve.conformance.processes import Child, Endpoint

ENGINE = "import time; print('up', flush=True); time.sleep(600)"


@pytest.fixture
def engine() -> Iterator[psutil.Process]:
    """A process that can be lost."""
    with subprocess.Popen([sys.executable, "-c", ENGINE], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield psutil.Process(process.pid)
        process.kill()


@pytest.fixture(autouse=True)
def _answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "answers", lambda _: "fine")


class _Endpoint:
    def __init__(self, *engine: psutil.Process) -> None:
        self._engine = list(engine)

    def processes(self, title: str) -> list[psutil.Process]:
        assert title in (faults.ENGINE, faults.SCHEDULER)
        return self._engine

    def tail(self) -> str:
        return "the log"


def lose(endpoint: _Endpoint, names: Iterator[str], what: signal.Signals) -> float:
    """`names`: of the replica that answers, one look after the other; "" while none does."""

    def answer(_: httpx.Request) -> httpx.Response:
        name = next(names)
        return httpx.Response(200, json={"replica": name}) if name else httpx.Response(503)

    return faults._replaced_after(cast("Endpoint", endpoint), client(answer), what, 0.3)


def test_a_replica_under_another_name_is_a_replacement(engine: psutil.Process) -> None:
    lose(_Endpoint(engine), iter(["a", "a", "", "b"]), signal.SIGKILL)
    assert engine.wait(10) == -signal.SIGKILL


@pytest.mark.parametrize("name", ["a", ""])
def test_none_is_noticed(engine: psutil.Process, name: str) -> None:
    with pytest.raises(Failed, match="SIGKILL: no other replica after 0 s") as failed:
        lose(_Endpoint(engine), iter(["a", *[name] * 100]), signal.SIGKILL)
    assert failed.value.log == "the log"


def test_an_engine_that_stays_is_noticed(engine: psutil.Process) -> None:
    with pytest.raises(Failed, match=rf"pids \[{engine.pid}\] of the engine that got SIGSTOP live"):
        lose(_Endpoint(engine), iter(["a", "b"]), signal.SIGSTOP)


def test_without_an_engine_there_is_nothing_to_lose() -> None:
    with pytest.raises(Failed, match="no replica, or no sglang::scheduler, to send SIGKILL"):
        lose(_Endpoint(), iter(["a"]), signal.SIGKILL)


def test_a_replica_that_does_not_answer_before_is_not_replaced_by_itself(engine: psutil.Process) -> None:
    with pytest.raises(Failed, match="no replica, or"):
        lose(_Endpoint(engine), iter(["", "a"]), signal.SIGSTOP)


def test_processes_are_found_by_what_they_call_themselves(tmp_path: Path) -> None:
    code = f"import subprocess, sys; subprocess.run(['my::engine', '-c', {ENGINE!r}], executable=sys.executable)"
    child = Child([sys.executable, "-c", code], tmp_path / "log", {})
    try:
        checks.wait_for(lambda: bool(child.processes("my::engine")), 10, "the grandchild is not there")
        assert child.processes("my::other") == []
    finally:
        child.end(0.1)
