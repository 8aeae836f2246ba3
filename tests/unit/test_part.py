"""What one node's part of a replica says of its adapters, where and when."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sglang_serve import args
from sglang_serve.adapter_files import NotAnAdapterError
from sglang_serve.part import Part

ADAPTER = args.AdapterArgs("sql", "hf://org/sql")


def test_an_adapter_on_its_way_is_a_step_of_the_start_and_news_later(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "org" / "sql").mkdir(parents=True)
    (tmp_path / "org" / "sql" / "no-adapter").touch()
    env = {args.ENV_STATE_DIR: str(tmp_path / "s"), args.ENV_MODEL_MIRROR: str(tmp_path)}
    part = Part(args.ServeArgs("e", args.ModelArgs("hf://org/name")), "r", env)
    progress = tmp_path / "s" / "r" / "progress.json"

    with pytest.raises(NotAnAdapterError):
        part.fetch_adapter(ADAPTER)
    said = json.loads(progress.read_text())
    assert (said["step"], said["message"].startswith("adapter sql: org/sql is taken")) == ("adapters", True)

    part.ready()
    capfd.readouterr()
    with pytest.raises(NotAnAdapterError):
        part.fetch_adapter(ADAPTER)
    (line,) = capfd.readouterr().out.splitlines()
    assert json.loads(line)["event"] == "adapter"
    assert json.loads(progress.read_text())["step"] == "ready"
    part.directory.remove()
    part._port.close()
