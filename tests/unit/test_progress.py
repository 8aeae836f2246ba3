"""A replica's progress: a file that is whole at any time, and a line per step."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sglang_serve.progress import FILE, Progress, write_line


def test_the_file_has_the_latest_step_and_the_log_has_all(tmp_path: Path) -> None:
    lines: list[str] = []
    progress = Progress(tmp_path, lines.append, endpoint="qwen", replica="r1")
    progress.report("model", "looking for it")
    progress.report("failed", "no memory", reason="OutOfMemory", remedy="buy some")

    assert json.loads((tmp_path / FILE).read_text()) == {
        "step": "failed",
        "message": "no memory",
        "reason": "OutOfMemory",
        "remedy": "buy some",
    }
    assert os.listdir(tmp_path) == [FILE]  # noqa: PTH208
    first, second = map(json.loads, lines)
    assert (first["event"], first["endpoint"], first["replica"], first["step"]) == ("progress", "qwen", "r1", "model")
    assert second["reason"] == "OutOfMemory"


def test_several_may_report_at_once(tmp_path: Path) -> None:
    progress = Progress(tmp_path, lambda _: None)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: progress.report("adapters", str(n)), range(400)))
    assert json.loads((tmp_path / FILE).read_text())["step"] == "adapters"


def test_a_line_reaches_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    write_line("{}")
    assert capfd.readouterr().out == "{}\n"
