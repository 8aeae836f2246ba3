"""docs/how-to/parallelism.md: its arithmetic is the renderer's, its YAML that of the example."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from unit.api_objects import endpoint

from sglang_operator.api import parse_endpoint
from sglang_operator.render.shape import shape_of

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/how-to/parallelism.md").read_text()
ROW = r"^\| (\d+) \| `(\{.*?\})` \| `(.*?)` \| (\d+) \| (\d+) \|$"
ROWS = re.findall(ROW, PAGE, re.MULTILINE)


def test_the_table_is_found() -> None:
    assert len(ROWS) == PAGE.count("`tp_size: ")


@pytest.mark.parametrize(("count", "parallelism", "engine", "pods", "accelerators"), ROWS)
def test_each_row_is_what_the_renderer_computes(
    count: str, parallelism: str, engine: str, pods: str, accelerators: str
) -> None:
    spec: dict[str, Any] = {"accelerator": {"count": int(count)}, "parallelism": yaml.safe_load(parallelism)}
    shape = shape_of(parse_endpoint(endpoint(**spec)))
    assert shape.parallelism.server_args() == yaml.safe_load(f"{{{engine}}}")
    assert (shape.pods, shape.accelerators) == (int(pods), int(accelerators))
    assert shape.parallelism.ranks == shape.accelerators
    assert shape.workers(3) == 3 * shape.pods


def test_the_yaml_is_that_of_the_example() -> None:
    ((path, text),) = re.findall(r"\]\(\.\./\.\./(examples/[\w-]+\.yaml)\):\n\n```yaml\n(.*?)```", PAGE, re.DOTALL)
    example = yaml.safe_load((ROOT / path).read_text())["spec"]
    assert {name: example[name] for name in yaml.safe_load(text)["spec"]} == yaml.safe_load(text)["spec"]
