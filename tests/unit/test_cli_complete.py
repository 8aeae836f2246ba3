"""`kubectl_complete-sglang` as kubectl calls it for a tab."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points

import pytest

from sglang_operator.cli.complete import FILES, NO_FILES, main
from sglang_operator.cli.main import COMMANDS


def complete(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[list[str], str]:
    """Candidates without what explains them, and the directive."""
    monkeypatch.setattr(sys, "argv", ["kubectl_complete-sglang", *words])
    main()
    *found, directive = capsys.readouterr().out.splitlines()
    return [line.partition("\t")[0] for line in found], directive


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], list(COMMANDS)),
        ([""], list(COMMANDS)),
        (["r"], ["render", "run"]),
        (["render", "--def"], ["--defaults"]),
        (["render", "-f", "a.yaml", "-o", ""], ["yaml", "json"]),
        (["render", "-f", "a.yaml", "--output=j"], ["json"]),
        (["status", "qwen3", "--wa"], ["--wait"]),
        (["args", "kv_cache_d"], ["kv_cache_dtype"]),
        (["args", "radix", "kv-cache-d"], ["kv_cache_dtype"]),
    ],
)
def test_words_are_completed(
    words: list[str], found: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert complete(capsys, monkeypatch, *words) == (found, NO_FILES)


@pytest.mark.parametrize("words", [["render", "-f", ""], ["run", "--python", "/us"], ["render", "-o", "zzz"]])
def test_where_it_knows_nothing_the_shell_has_files(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert complete(capsys, monkeypatch, *words) == ([], FILES)


def test_a_candidate_is_explained_in_its_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["kubectl_complete-sglang", "rend"])
    main()
    assert capsys.readouterr().out == f"render\tPrint the Kubernetes objects of endpoints.\n{NO_FILES}\n"


def test_kubectl_finds_it_by_its_name() -> None:
    (found,) = entry_points(group="console_scripts", name="kubectl_complete-sglang")
    assert found.load() is main
