"""What one node's part of a replica says of its adapters, where and when."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from unit import full_disk

from sglang_serve import args, backoff, health, models
from sglang_serve.adapter_files import NotAnAdapterError
from sglang_serve.commit import Alone
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


def test_a_start_that_fails_on_a_full_disk_tells_why_and_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    killed: list[bool] = []
    part = Part(args.ServeArgs("e", args.ModelArgs("file:///m")), "r", {args.ENV_STATE_DIR: str(tmp_path)})
    monkeypatch.setattr(health, "kill_children", lambda: killed.append(True))
    monkeypatch.setattr(backoff, "FIRST_SECONDS", 0.0)
    (part.directory.scratch / "large").touch()
    full_disk.fill(monkeypatch)
    failure = part.failed(OSError(28, "No space left on device"))
    assert killed
    assert not part.directory.scratch.exists()
    (line,) = map(json.loads, capfd.readouterr().out.splitlines())
    assert (line["step"], line["reason"]) == ("failed", failure.reason)
    assert "ephemeralStorage" in line["remedy"]
    part._port.close()


def test_a_later_ray_cluster_serves_the_commit_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The branch has moved since. What its own first replica has begun with counts more than what is told later."""
    first, now, other = "1" * 40, "2" * 40, "3" * 40

    def commits_of(store: Alone, tellings: list[str]) -> list[str]:
        found = []
        for told in tellings:
            part = Part(args.ServeArgs("e", args.ModelArgs("hf://org/name")), "r", {args.ENV_STATE_DIR: str(tmp_path)})
            part.resolve(store, told)
            found.append(part.commit)
            part.directory.remove()
            part._port.close()
        return found

    monkeypatch.setattr(models, "resolve", lambda wanted, *_: wanted.commit or now)
    assert commits_of(Alone(), [first, "", other]) == [first] * 3
    assert commits_of(Alone(), ["", first]) == [now] * 2
