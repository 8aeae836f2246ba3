"""The conformance program on this machine's CPU, as a user of an image runs it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from engine.traces import no_trace

import sglang_serve
from sglang_operator.api.versions import versions
from sglang_operator.cli.local_process import import_path

SECONDS = 1200


@pytest.mark.long  # the image tier makes a quick run inside the CPU image
@pytest.mark.timeout(SECONDS + 60)
def test_a_run_passes_and_reports(engine_python: Path, tiny_model: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    command: list[str] = [str(engine_python), "-m", "sglang_serve.conformance"]
    command += ["--model", str(tiny_model), "--output", str(output)]
    env = {**os.environ, **import_path(), "HF_TOKEN": "hf_must_not_be_shown"}
    with no_trace():
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stdout[-6000:]
    report = json.loads((output / "report.json").read_text())
    found = {one["name"]: one["status"] for one in report["outcomes"]}
    passed = ["start", "answers", "requests for parity", "disconnect", "keys", "a lost engine", "drain", "nothing left"]
    passed += ["parity with sglang.launch_server"]
    skipped = ["adapters", "tensor parallelism", "pipeline parallelism", "data parallelism"]
    skipped += ["expert parallelism", "attention data parallelism"]
    assert found == {**dict.fromkeys(passed, "pass"), **dict.fromkeys(skipped, "skip")}
    assert report["machine"]["versions"]["sglang"] == versions()["sglang"]
    assert report["machine"]["code"].startswith(f"{sglang_serve.__version__}, sources sha256:")
    assert report["machine"]["image"] == "none"
    assert "hf_must_not_be_shown" not in (output / "report.json").read_text() + (output / "report.md").read_text()
    assert (output / "report.md").read_text() in done.stdout
