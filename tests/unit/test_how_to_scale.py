"""docs/how-to/scale.md shows what the examples hold, and says of the API what is so."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from sglang_serve import hold

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/how-to/scale.md").read_text()


def test_each_yaml_is_that_of_the_example_named_before_it() -> None:
    blocks = re.findall(r"\]\(\.\./\.\./(examples/[\w-]+\.yaml)\):\n\n```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == PAGE.count("```yaml")
    for path, text in blocks:
        example = yaml.safe_load((ROOT / path).read_text())
        assert yaml.safe_load(text)["spec"]["scaling"] == example["spec"]["scaling"], path


def test_numbers_are_those_of_the_code() -> None:
    assert f"`Retry-After: {hold.RETRY_SECONDS}`" in PAGE
    assert f"the {hold.MOST_HELD + 1}st at one time" in PAGE
    assert f"{hold.MOST_HELD_BYTES // 2**20} MiB" in PAGE
