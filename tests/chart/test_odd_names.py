"""Names that YAML takes for a truth, a number or nothing where they have no quotes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from chart.conftest import Chart
from chart.rendered import EVERYTHING

from sglang_operator.api.yaml_loader import Loader

pytestmark = pytest.mark.chart

Json = dict[str, Any]
NAMED = frozenset({"name", "namespace", "serviceAccountName", "priorityClassName", "resourceNames", "matchNames"})
ODD_NAMES: Json = {
    **EVERYTHING,
    "nameOverride": "",
    "serviceAccount": {"name": "1e3"},
    "priorityClassName": "123",
    "watchNamespaces": ["no", "123", "1e3"],
}


@pytest.mark.parametrize(
    ("release", "override"), [("operator", {"fullnameOverride": "no"}), ("null", {"nameOverride": "null"})]
)
def test_names_that_yaml_takes_for_something_else_stay_text(chart: Chart, release: str, override: Json) -> None:
    text = chart.text({**ODD_NAMES, **override}, release=release, namespace="123")
    objects = [one for one in yaml.load_all(text, Loader) if one and one["kind"] != "CustomResourceDefinition"]
    found = [value for one in objects for value in under_names(one)]
    assert {release if "nameOverride" in override else "no", "123", "1e3"} <= set(found)
    assert [value for value in found if not isinstance(value, str)] == []


def under_names(part: Any) -> Iterator[Any]:
    """Every value, in any depth, that names an object."""
    if isinstance(part, list):
        yield from (value for item in part for value in under_names(item))
    elif isinstance(part, dict):
        for key, value in part.items():
            if key in NAMED and not isinstance(value, dict):
                yield from value if isinstance(value, list) else [value]
            else:
                yield from under_names(value)
