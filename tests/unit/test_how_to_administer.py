"""docs/how-to/administer.md names the routes that there are."""

from __future__ import annotations

import json
import re
from pathlib import Path

from sglang_serve.fan_out import PREFIX, ROUTES, summary
from sglang_serve.health import UPDATE_SECONDS

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "administer.md").read_text()


def test_the_table_has_every_route() -> None:
    rows = re.findall(r"^\| (`.*?`) \|", PAGE, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == ROUTES
    assert f"POST {PREFIX}<route>" in PAGE


def test_the_answer_is_made_as_shown() -> None:
    (shown,) = (json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL))
    assert summary(shown["replicas"]) == shown


def test_numbers_are_those_of_the_code() -> None:
    assert f"healthy for {UPDATE_SECONDS:.0f} seconds" in PAGE
