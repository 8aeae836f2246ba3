"""The command line of the conformance program."""

from __future__ import annotations

from pathlib import Path

import pytest

from sglang_serve.conformance.options import Options, parse


def test_defaults_need_nothing() -> None:
    assert parse([]) == Options()


def test_engine_arguments_keep_their_type() -> None:
    found = parse(["--engine-arg", "attention_backend=triton", "--engine-arg", "mem_fraction_static=0.8"])
    assert found.engine == {"attention_backend": "triton", "mem_fraction_static": 0.8}
    assert parse(["--engine-arg", "disable_cuda_graph=true"]).engine == {"disable_cuda_graph": True}


def test_directory_becomes_a_uri(tmp_path: Path) -> None:
    assert parse(["--model", str(tmp_path)]).model == f"file://{tmp_path}"
    assert parse(["--model", "hf://Qwen/Qwen3-8B"]).model == "hf://Qwen/Qwen3-8B"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--model", "/nowhere"], "no directory '/nowhere'"),
        (["--engine-arg", "mem_fraction_static"], "is not NAME=VALUE"),
        (["--engine-arg", "tp-size=2"], "is not NAME=VALUE"),
        (["--vendor", "tpu"], "invalid choice"),
    ],
)
def test_wrong_usage_says_what_is_wrong(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(argv)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--help"])
    text = capsys.readouterr().out
    assert "docker run" in text
    assert "no key, token, prompt or host name" in text
