"""Writes the records that this version makes of every example and every golden input, each beside its endpoint.

Once for each release, into a file of its own, which tests/unit/test_old_records.py then finds; one that is there stays:

.venv/bin/python hack/freeze_records.py tests/unit/data/records-v0.2.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

import yaml

from sglang_operator.api import KIND, parse_endpoint
from sglang_operator.api.yaml_loader import Loader
from sglang_operator.cluster.children import ray_service_of
from sglang_operator.cluster.metadata import Owner
from sglang_operator.cluster.records import new_record
from sglang_operator.cluster.types import Key
from sglang_operator.render import render_endpoint

ROOT: Final = Path(__file__).resolve().parents[1]


def inputs() -> dict[str, Path]:
    """Files by the names that the golden files have for them."""
    examples = {f"example-{path.stem}": path for path in (ROOT / "examples").glob("*.yaml")}
    golden = {path.parent.name: path for path in (ROOT / "tests" / "golden").glob("*/input.yaml")}
    return dict(sorted({**examples, **golden}.items()))


def frozen(path: Path) -> dict[str, Any]:
    """The endpoint of a file, and the record that the operator writes when it meets it for the first time."""
    documents = yaml.load_all(path.read_text(encoding="utf-8"), Loader)
    (written,) = (one for one in documents if one["kind"] == KIND)
    endpoint = parse_endpoint(written)
    owner = Owner(Key(endpoint.namespace, endpoint.name), "uid")
    record = new_record(owner, 1, endpoint, ray_service_of(render_endpoint(endpoint)))
    return {"endpoint": written, "record": record}


def main(target: Path) -> None:
    """A line for each: indented, it would be three times as large."""
    lines = [f" {json.dumps(name)}: {_compact(frozen(path))}" for name, path in inputs().items()]
    with target.open("x", encoding="utf-8") as file:
        file.write("{\n" + ",\n".join(lines) + "\n}\n")


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
