"""`make help` explains what there is."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def test_help_explains_every_target() -> None:
    said = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    explained = re.findall(r"^  (?:\x1b\[\d+m)?([\w-]+)(?:\x1b\[0m)? +\S", said, re.MULTILINE)
    assert sorted(explained) == sorted(re.findall(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE))


def test_every_target_without_a_file_is_phony() -> None:
    """Otherwise a file of that name would make it a target that has been made."""
    targets = re.findall(r"^([a-z][\w-]*):(?!=)", MAKEFILE, re.MULTILINE)
    assert set(targets) == set(re.findall(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE))


@pytest.mark.parametrize(("first", "rest", "ended"), [(0, 0, 0), (0, 1, 2), (1, 0, 2), (5, 5, 2), (2, 0, 2)])
def test_a_run_says_how_long_its_parts_took_and_fails_if_one_has(
    first: int, rest: int, ended: int, tmp_path: Path
) -> None:
    command = tmp_path / "pytest"
    command.write_text(f"#!/bin/sh\nif [ \"$2\" = 'apiserver and not long' ]; then exit {first}; fi\nexit {rest}\n")
    command.chmod(0o755)
    needed = ("lint", "engine", "model", "image-tools", "cluster-tools")
    made = [word for target in needed for word in ("--assume-old", target)]
    called = ["make", "--silent", *made, "test", f"BIN={tmp_path}"]
    run = subprocess.run(called, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == ended
    parts = re.findall(r"^ *\d+ s  (.+)$", run.stdout, re.MULTILINE)
    all_ran = ["environments and lint", "the tests with an API server", "all other tests"]
    assert parts == ([] if first == 2 else all_ran)  # 2: ended by its user


def test_a_commit_is_checked_by_what_ci_runs() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [(hook["entry"], hook["pass_filenames"]) for hook in repository["hooks"]] == [
        ("make format", False),
        ("make lint", False),
    ]


@pytest.mark.parametrize("question", ['What\'s "up"?', "$HOME; ls `id`", "two  words", ""])
def test_a_question_reaches_the_command_as_it_is(question: str, tmp_path: Path) -> None:
    """`make run ONCE="…"`: quotes and dollars are the question's, not the shell's. Without one it keeps running."""
    command = tmp_path / "kubectl-sglang"
    command.write_text('#!/bin/sh\nfor word; do echo "<$word>"; done\n')
    command.chmod(0o755)
    made = [word for target in ("venv", "engine", "model") for word in ("--assume-old", target)]
    asked = f"ONCE={question.replace('$', '$$')}"
    called = ["make", "--silent", *made, "run", f"BIN={tmp_path}", "ENGINE_PYTHON=python", asked]
    said = subprocess.run(called, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    words = ["run", "-f", "examples/smollm2.yaml", "--python", "python", *(["--once", question] if question else [])]
    assert said.splitlines() == [f"<{word}>" for word in words]
