"""The end of a replica that has lost a process of its engine, without an engine."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from sglang_serve import health
from sglang_serve.args import ENV_STATE_DIR, LiveArgs, ModelArgs, ServeArgs
from sglang_serve.part import Part
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


def test_it_starts_with_the_commit_that_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`reconfigure` comes when the model has been loaded."""
    told: list[str] = []
    monkeypatch.setattr(Part, "resolve", lambda _part, _commits, commit: told.append(commit))
    monkeypatch.setattr(Part, "fetch", lambda _: tmp_path)
    monkeypatch.setattr(Part, "load", lambda *_: None)
    for live in (None, LiveArgs(), LiveArgs(model_commit="1" * 40)):
        replica = Replica(ServeArgs("e", ModelArgs("hf://o/n")), "a", {ENV_STATE_DIR: str(tmp_path)}, live=live)
        replica._load()
        replica._part._port.close()
        replica.stop()
    assert told == ["", "", "1" * 40]
