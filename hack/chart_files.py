"""Writes what the chart repeats: the CRD, the schema of `defaults:`, versions the dashboard and the table of values.

python hack/chart_files.py            # make chart
python hack/chart_files.py --check    # exit 1 if a file is stale
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml
from dashboard import dashboard

ROOT: Final = Path(__file__).resolve().parents[1]
CHART: Final = ROOT / "charts" / "sglang-operator"
CRDS: Final = ROOT / "crds"
SCHEMA: Final = ROOT / "hack" / "chart-values.schema.json"
PAGE: Final = ROOT / "docs" / "reference" / "chart-values.md"
CRD: Final = "serve.sglang.io_sglangendpoints.yaml"

_OF_KUBERNETES: Final = "x-kubernetes-"
_TITLE: Final = """\
# Values of the chart

Generated from [values.yaml](../../charts/sglang-operator/values.yaml) by `make chart`. What they are for:
[Install](../how-to/install.md).

| value | default | what it does |
|---|---|---|
"""


def files() -> dict[Path, str]:
    """Every generated file with its content."""
    crd = (CRDS / CRD).read_text(encoding="utf-8")
    chart = (CHART / "Chart.yaml").read_text(encoding="utf-8")
    values = (CHART / "values.yaml").read_text(encoding="utf-8")
    return {
        CHART / "files" / "crds" / CRD: crd,
        CHART / "values.schema.json": json.dumps(_values_schema(crd), indent=1) + "\n",
        CHART / "Chart.yaml": _with_version(chart),
        CHART / "dashboard.json": dashboard(),
        PAGE: _TITLE + "".join(f"| `{path}` | {default} | {text} |\n" for path, default, text in described(values)),
    }


def partial(schema: dict[str, Any], *, in_list: bool = False) -> dict[str, Any]:
    """A schema of the CRD as that of a part: closed, nothing required. Items of lists stay whole: no list is merged."""
    found = {key: value for key, value in schema.items() if not key.startswith(_OF_KUBERNETES) and key != "default"}
    if not in_list:
        found.pop("required", None)
    if "properties" in found:
        found["properties"] = {name: partial(part, in_list=in_list) for name, part in found["properties"].items()}
        found["additionalProperties"] = False
    if "items" in found:
        found["items"] = partial(found["items"], in_list=True)
    if isinstance(found.get("additionalProperties"), dict):
        found["additionalProperties"] = partial(found["additionalProperties"], in_list=in_list)
    return found


def described(values: str) -> Iterator[tuple[str, str, str]]:
    """(path, default, description) of every value with a `# --` comment over it."""
    lines = values.splitlines()
    for path, key, value in _nodes(yaml.compose(values, yaml.SafeLoader), ""):
        if text := _comment_over(lines, key.start_mark.line):
            plain = yaml.load(yaml.serialize(value), yaml.SafeLoader)
            yield path, f"`{json.dumps(plain)}`", text.replace("|", "\\|")


def _nodes(mapping: Any, prefix: str) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
    for key, value in mapping.value:
        path = f"{prefix}{key.value}"
        yield path, key, value
        if isinstance(value, yaml.MappingNode):
            yield from _nodes(value, f"{path}.")


def _comment_over(lines: list[str], line: int) -> str:
    """The block of comments right over `line`, from its `# --` on; "" if there is none."""
    start = line
    while start and lines[start - 1].lstrip().startswith("#"):
        start -= 1
    text = " ".join(one.strip().removeprefix("#").strip() for one in lines[start:line])
    return text.partition("-- ")[2]


def _values_schema(crd: str) -> dict[str, Any]:
    version = yaml.load(crd, yaml.CSafeLoader)["spec"]["versions"][0]
    spec = partial(version["schema"]["openAPIV3Schema"]["properties"]["spec"])
    del spec["properties"]["replicas"]  # the API server writes one into every endpoint: nothing is left to be filled in
    schema: dict[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))
    schema["properties"]["defaults"] = {**spec, "description": "Merged under the spec of each endpoint."}
    return schema


def _with_version(chart: str) -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    chart = re.sub(r"^version: .*$", f"version: {project['version']}", chart, flags=re.MULTILINE)
    return re.sub(r"^appVersion: .*$", f'appVersion: "{project["version"]}"', chart, flags=re.MULTILINE)


def main() -> int:
    """Write what is stale, or name it with --check."""
    stale = {path: text for path, text in files().items() if not path.is_file() or path.read_text("utf-8") != text}
    for path, text in stale.items():
        if "--check" in sys.argv:
            print(f"{path.relative_to(ROOT)} is stale: make chart")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return int(bool(stale) and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
