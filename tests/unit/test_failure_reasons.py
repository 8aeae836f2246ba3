"""Reasons of a failed revision: those that the code finds are those that the docs explain."""

from __future__ import annotations

import ast
import inspect
import re
from types import ModuleType
from typing import get_args

import pytest

from sglang_operator.cluster import ends, logs, pods
from sglang_operator.lifecycle import failing
from sglang_serve import errors


def test_every_reason_of_a_failed_revision_has_its_row_in_the_docs(request: pytest.FixtureRequest) -> None:
    """Those that the operator finds itself, and those that a replica says of its start; the latter but what is retried,
    which the text below the table is about."""
    page = (request.config.rootpath / "docs/reference/conditions.md").read_text()
    part = page.partition("## Reasons of a failed revision\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE)
    found = {reason for module in (ends, failing, logs, pods) for reason in reasons_in(module)}
    assert sorted(rows) == sorted(found | set(get_args(errors.Reason)) - logs.RETRIED)
    assert all(f"`{reason}` is retried" in part for reason in logs.RETRIED)


def test_no_other_module_finds_failures(request: pytest.FixtureRequest) -> None:
    """But `records`, which reads what was found."""
    source = request.config.rootpath / "operator" / "sglang_operator"
    makers = {path.stem for path in source.rglob("*.py") if re.search(r"\bFailure\(", path.read_text())}
    assert makers == {"ends", "failing", "logs", "pods", "records"}


def reasons_in(module: ModuleType) -> set[str]:
    """First arguments of the failures that a module makes, but what it repeats from a log (`_reason`)."""
    calls = (node for node in ast.walk(ast.parse(inspect.getsource(module))) if isinstance(node, ast.Call))
    firsts = [ast.unparse(call.args[0]) for call in calls if ast.unparse(call.func) == "Failure"]
    return {eval(text, vars(module)) for text in firsts if not text.startswith("_reason(")}
