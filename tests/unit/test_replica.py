"""The end of a replica that has lost a process of its engine, without an engine."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from sglang_serve import health
from sglang_serve.args import ENV_STATE_DIR, ModelArgs, ServeArgs
from sglang_serve.replica import Replica


def test_it_ends_once_and_the_first_cause_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """With its own processes killed those on other nodes end too, and are told by another thread."""
    replica = Replica(ServeArgs("e", ModelArgs("file:///m")), "a", {ENV_STATE_DIR: str(tmp_path)})
    codes: list[int] = []
    others = [threading.Thread(target=replica._end, args=("a node of the replica was lost",))]

    def kill_children() -> None:
        while others:
            thread = others.pop()
            thread.start()
            thread.join(10)

    monkeypatch.setattr(health, "kill_children", kill_children)
    monkeypatch.setattr(os, "_exit", codes.append)
    replica._end("process 7 ended")
    replica._part._port.close()
    (line,) = map(json.loads, capfd.readouterr().out.splitlines())
    assert (line["event"], codes) == ("engine_died", [1])
    assert "process 7 ended" in line["message"]
