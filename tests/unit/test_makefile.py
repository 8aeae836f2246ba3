"""`make help` explains what there is."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

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
