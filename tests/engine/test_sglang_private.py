"""The private names of SGLang that we use are still there, and are used in one module."""

from __future__ import annotations

import ast
import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).parent / "private_names.py"
LABELS = Path(__file__).parent / "metric_labels.py"
REMEDY = """
Read the new source of what is named above, adapt images/sglang_serve/sglang_private.py, then private_names.py here.
"""


def test_the_installed_sglang_has_what_we_use(engine_python: Path) -> None:
    done = subprocess.run([engine_python, SCRIPT], capture_output=True, text=True, timeout=120, check=False)
    found = [line for line in done.stdout.splitlines() if line.startswith("difference:")]
    if done.returncode or found:
        pytest.fail("\n".join(["this SGLang differs:", *found, done.stderr[-1500:] if done.returncode else "", REMEDY]))


def test_paths_that_no_route_has_make_one_series(engine_python: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT / "images")}
    done = subprocess.run([engine_python, LABELS], env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-1500:]
    labels = json.loads(done.stdout.splitlines()[-1])
    assert "/healthz-of-native" in labels, "SGLang bounds them itself: count_by_route can go"
    assert labels == ["/health", "/healthz-of-native", "/v1/models/{model:path}", "no route"]


def test_one_module_alone_imports_sglang() -> None:
    importing = {path.name for path in (ROOT / "images" / "sglang_serve").rglob("*.py") if imports_sglang(path)}
    assert importing <= {"sglang_private.py"}


def imports_sglang(path: Path) -> bool:
    names = [name for node in ast.walk(ast.parse(path.read_text())) for name in imported(node)]
    return any(name.partition(".")[0] == "sglang" for name in names)


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []
