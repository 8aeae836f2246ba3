"""A replica's progress: a file that is whole at any time, and a line per step."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from unit import full_disk

from sglang_serve import progress
from sglang_serve.progress import FILE, READ_BYTES, Bytes, Progress, bytes_read, following, loading, write_line


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


def test_the_line_comes_also_where_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    one = Progress(tmp_path, lines.append)
    one.report("load", "starting")
    full_disk.fill(monkeypatch)
    one.report("failed", "no room", reason="EngineFailed")
    assert json.loads(lines[-1])["reason"] == "EngineFailed"
    assert json.loads((tmp_path / FILE).read_text())["step"] == "load"


def test_whoever_follows_a_download_outlives_a_volume_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "DOWNLOAD_SECONDS", 0.001)
    said: list[str] = []
    heard = threading.Event()
    errors = [OSError(errno.ESTALE, "Stale file handle")]

    def arrived() -> int:
        if errors:
            raise errors.pop()
        return 7

    def say(what: str) -> None:
        said.append(what)
        if len(said) > 1:
            heard.set()

    with following("it", Bytes(10), arrived, say):
        assert heard.wait(5)
    assert "7 " in said[1]


def test_a_load_tells_how_much_it_has_read_and_only_while_it_reads() -> None:
    said: list[str] = []
    looked = threading.Event()
    reads = iter([READ_BYTES // 2, READ_BYTES, READ_BYTES * 3 // 2, 5 * READ_BYTES])

    def read() -> int:
        if (now := next(reads, None)) is None:
            looked.set()
        return now or 5 * READ_BYTES

    with loading(said.append, read, seconds=0.001):
        assert looked.wait(5)
    assert said == [f"loading: {Bytes(5 * READ_BYTES)} read"], "slower is a start that hangs"


def test_what_processes_of_ours_read_is_counted(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(bytes(READ_BYTES))
    script = f"open({str(file)!r}, 'rb').read(); print(flush=True); input()"
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin
        assert child.stdout
        child.stdout.readline()
        assert bytes_read() >= READ_BYTES
        child.stdin.write(b"\n")
        child.stdin.close()
