"""values.schema.json: what it refuses, and that it knows every value of values.yaml."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from chart.conftest import CHART, ROOT, Chart

pytestmark = pytest.mark.chart

Json = dict[str, Any]
SCHEMA: Json = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
VALUES: Json = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))

# values -> the field that Helm must name
REFUSED: list[tuple[Json, str]] = [
    ({"watchNamespace": ["a"]}, "watchNamespace"),
    ({"image": {"name": "x"}}, "name"),
    ({"image": {"digest": "abc"}}, "digest"),
    ({"images": {"intel": "r/i:1"}}, "intel"),
    ({"images": {"cpu": "r/i:1 "}}, "cpu"),
    ({"images": {"cpu": "https://r/i:1"}}, "cpu"),
    ({"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
    ({"replicas": "2"}, "replicas"),
    ({"replicas": -1}, "replicas"),
    ({"watchNamespaces": "a"}, "watchNamespaces"),
    ({"watchNamespaces": ["A"]}, "watchNamespaces"),
    ({"workers": 0}, "workers"),
    ({"log": {"level": "loud"}}, "level"),
    ({"rbac": {"secrets": True}}, "secrets"),
    ({"metrics": {"serviceMonitor": {"interval": 30}}}, "interval"),
    ({"fullnameOverride": "a" * 53}, "fullnameOverride"),
    ({"defaults": {"upgrade": {"drainSecond": 5}}}, "drainSecond"),
    ({"defaults": {"upgrade": {"drainSeconds": "5"}}}, "drainSeconds"),
    ({"defaults": {"accelerator": {"vendor": "intel"}}}, "vendor"),
    ({"defaults": {"replicas": 2}}, "replicas"),
    ({"defaults": {"engine": {"env": [{"value": "x"}]}}}, "name"),
    ({"defaults": {"resources": {"memory": "lots"}}}, "memory"),
    ({"metrics": {"service": {"enabled": False}, "serviceMonitor": {"enabled": True}}}, "metrics.service.enabled"),
]
TAKEN: list[Json] = [
    {"global": {"anything": 1}},
    {"defaults": {"model": {"cache": {"storageClassName": "fast"}}}},
    {"defaults": {"resources": {"cpu": 4}}},
    {"defaults": {"podTemplate": {"worker": {"spec": {"runtimeClassName": "nvidia"}}}}},
    {"defaults": {"engine": {"args": {"any_argument": [1, "a"]}}}},
    {"image": {"tag": "1.0"}, "resources": {"limits": {"cpu": 1}}},
    {"defaults": None},  # a key with nothing after it, as it is easily left in a file
    {"images": None},
    {"kuberay": None},
]


@pytest.mark.parametrize(("values", "field"), REFUSED, ids=lambda value: value if isinstance(value, str) else "")
def test_refused(chart: Chart, values: Json, field: str) -> None:
    assert field in chart.refusal(values)


@pytest.mark.parametrize("values", TAKEN, ids=str)
def test_taken(chart: Chart, values: Json) -> None:
    assert chart.refusal(values) == ""


def keys(values: Json, *above: str) -> Iterator[tuple[str, ...]]:
    """Where every value is, sections too."""
    for name, value in values.items():
        yield (*above, name)
        if isinstance(value, dict):
            yield from keys(value, *above, name)


def test_what_is_set_to_nothing_is_taken_or_refused_by_its_name(chart: Chart) -> None:
    """To Helm a null takes the default away: no template may stumble over what it then lacks, or leave a hole there."""
    for path in keys(VALUES):
        values: Any = None
        for name in reversed(path):
            values = {name: values}
        rendered, said = chart.outcome(values)
        assert said == "" or (path[-1] in said and ("schema" in said or "is required" in said)), f"{path}: {said}"
        assert "%!" not in rendered, f"{path}: printf writes a null as %!s(<nil>)"
        options = [line for line in rendered.splitlines() if line.strip().startswith("- --")]
        assert not [option for option in options if option.endswith("=")], f"{path}: the operator would not start"


def test_generated_files_are_fresh() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "hack" / "chart_files.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_versions_are_the_projects() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert chart["appVersion"] == chart["version"] == project["version"]


OF_KUBERNETES = {"resources", "podSecurityContext", "securityContext"}


def leaves(values: Json, prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict) and value and prefix + name not in OF_KUBERNETES:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_every_value_is_described_and_has_a_schema() -> None:
    page = (ROOT / "docs" / "reference" / "chart-values.md").read_text(encoding="utf-8")
    for path in leaves(VALUES):
        assert f"| `{path}` |" in page, f"{path} has no `# --` comment in values.yaml"
        schema = SCHEMA
        for name in path.split("."):
            assert name in schema["properties"], path
            schema = schema["properties"][name]


def test_the_schema_knows_no_value_that_values_yaml_does_not_show() -> None:
    assert set(SCHEMA["properties"]) - {"global", "enabled"} == set(VALUES)  # a parent's, which Helm hands down


def objects(schema: Any) -> Iterator[Json]:
    if isinstance(schema, dict):
        if "properties" in schema:
            yield schema
        for name, part in schema.items():
            yield from objects(list(part.values()) if name in ("properties", "definitions") else part)
    elif isinstance(schema, list):
        for part in schema:
            yield from objects(part)


def test_every_object_with_known_fields_is_closed() -> None:
    for schema in objects(SCHEMA):
        assert schema["additionalProperties"] is False, list(schema["properties"])
