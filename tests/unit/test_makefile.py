"""`make help` explains what there is."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

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
