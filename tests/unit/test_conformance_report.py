"""The report tells everything but secrets."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from sglang_serve.conformance import main, report
from sglang_serve.conformance.machine import PACKAGES, Machine, _hash_of_sources
from sglang_serve.conformance.options import Options
from sglang_serve.conformance.outcome import Failed, Outcome, Skipped, run
from sglang_serve.conformance.session import tensor_ranks

MACHINE = Machine(
    vendor="amd",
    accelerators=({"name": "MI300X", "memory_gib": 191.5},) * 2,
    free_bytes=(1, 1),
    cpu="EPYC",
    cores=96,
    memory_gib=1000.0,
    driver="6.16",
    runtime="HIP 7.2",
    system="Ubuntu 24.04",
    python="3.12.3",
    code="0.1.0, sources sha256:0123456789ab",
    image="built from revision abcdef0",
    versions={"sglang": "0.5.23"},
)


def make(*outcomes: Outcome) -> report.Report:
    return report.Report("2026-11-23T00:00:00+00:00", 61.0, "random", {"a": 1}, False, MACHINE, outcomes)


def fail(text: str, log: str = "") -> str:
    raise Failed(text, log)


def skip(text: str) -> str:
    raise Skipped(text)


def test_outcomes() -> None:
    assert run("a", lambda: "fine").status == "pass"
    assert run("b", lambda: skip("no GPU")).status == "skip"
    failed = run("c", lambda: fail("cut", "the log"))
    assert (failed.status, failed.detail, failed.log) == ("fail", "cut", "the log")
    broken = run("d", lambda: str(1 / 0))
    assert (broken.status, broken.detail) == ("fail", "ZeroDivisionError: division by zero")


def test_a_failure_has_a_log() -> None:
    assert run("a", lambda: str(1 / 0), lambda: "the last lines").log == "the last lines"
    assert run("b", lambda: fail("cut", "its own"), lambda: "the last lines").log == "its own"
    assert run("c", lambda: "fine", lambda: "the last lines").log == ""


def test_one_failure_fails_the_report_and_shows_its_log() -> None:
    found = make(run("keys", lambda: "fine"), run("drain", lambda: fail("a stream | was cut", "last line")))
    text = report.to_markdown(found)
    assert text.startswith("# Conformance: FAIL (1 pass, 1 fail)")
    assert "2 x MI300X (191.5 GiB)" in text
    assert "a stream \\| was cut" in text
    assert "last line" in text
    assert json.loads(report.to_json(found))["passed"] is False


def test_it_names_the_code_and_the_image() -> None:
    text = report.to_markdown(make())
    assert "| sglang_serve | 0.1.0, sources sha256:0123456789ab |" in text
    assert "| serving image | built from revision abcdef0 |" in text


def test_versions_are_asked_for_by_the_names_of_distributions() -> None:
    assert "amd-aiter" in PACKAGES  # `aiter` is the module


def test_a_rocm_image_that_can_open_no_gpu_is_not_checked_as_one_for_cpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = dataclasses.replace(MACHINE, vendor="cpu", accelerators=(), free_bytes=())
    monkeypatch.setattr("sglang_serve.conformance.machine.look", lambda: found)
    with pytest.raises(SystemExit) as ended:
        main.run(Options(), tmp_path)
    assert ended.value.code == 2
    assert "getent group render" in capsys.readouterr().err


def test_the_hash_is_of_all_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def digest(**files: str) -> str:
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(text)
        return _hash_of_sources()

    monkeypatch.setattr("sglang_serve.__file__", str(tmp_path / "__init__.py"))
    first = digest(a="1", b="2")
    assert digest(a="1", b="2") == first
    assert digest(b="3") != first


def test_skipped_checks_do_not_fail_it() -> None:
    found = make(run("tensor parallelism", lambda: skip("one accelerator")))
    assert found.passed
    assert json.loads(report.to_json(found))["outcomes"][0]["status"] == "skip"


def test_secrets_are_masked() -> None:
    environ = {"HF_TOKEN": "hf_abcdefgh", "TOKENIZERS_PARALLELISM": "true", "HOME": "/home/sglang"}
    text = report.redact("hf_abcdefgh of 0123 in /home/sglang: true", environ, ("0123",))
    assert text == "*** of *** in /home/sglang: true"
    assert report.public_arguments({"my_api_key": "x", "tp": 1}) == {"my_api_key": "***", "tp": 1}


def test_ranks_are_a_power_of_two() -> None:
    assert [tensor_ranks(count) for count in (0, 1, 2, 3, 6, 8, 16)] == [1, 1, 2, 2, 4, 8, 8]
