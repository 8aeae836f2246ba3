"""Lists of a patch of `spec.podTemplate.worker` that stand in place of what other fields say."""

from __future__ import annotations

from typing import Any

import pytest
from unit.api_objects import endpoint

from sglang_operator.api import parse_endpoint
from sglang_operator.api.replaced import PRODUCT_LABELS, TAINTS
from sglang_operator.render import render_endpoint
from sglang_operator.render.shape import DEVICES

OWN: dict[str, Any] = {"key": "team", "operator": "Exists"}
ZONE = {"key": "zone", "operator": "In", "values": ["a"]}
H100 = {"key": "nvidia.com/gpu.product", "operator": "In", "values": ["H100"]}


def terms(*expressions: dict[str, Any]) -> dict[str, Any]:
    required = {"nodeSelectorTerms": [{"matchExpressions": [one]} for one in expressions]}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}}


def warnings(patch: Any, **spec: Any) -> list[str]:
    found = parse_endpoint(endpoint(podTemplate={"worker": {"spec": patch}}, **spec)).warnings
    return [f"{one.path}: {one.message}: {one.remedy}" for one in found]


@pytest.mark.parametrize(
    ("vendor", "written", "lost"),
    [("nvidia", [], "nvidia.com/gpu"), ("amd", [OWN], "amd.com/gpu, team"), ("cpu", [OWN], "team")],
)
def test_tolerations_that_are_gone(vendor: str, written: list[Any], lost: str) -> None:
    patch = {"tolerations": [{"key": "spot", "operator": "Exists"}]}
    (said,) = warnings(patch, accelerator={"vendor": vendor}, scheduling={"tolerations": written})
    assert said.startswith("spec.podTemplate.worker.spec.tolerations: ")
    assert f"none of {lost} any more" in said
    assert "use spec.scheduling.tolerations" in said


@pytest.mark.parametrize(
    "patch",
    [
        {"tolerations": [{"operator": "Exists"}]},
        {"tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}, {"key": "spot", "operator": "Exists"}]},
        {"tolerations": None},
        {"tolerations": "all"},
        {"tolerations": [{"key": ["nvidia.com/gpu"]}, {}]},
        terms(H100),
        {"affinity": None},
        None,
    ],
    ids=str,
)
def test_what_takes_nothing_away(patch: Any) -> None:
    assert warnings(patch, accelerator={"products": ["H100"]}) == []


def test_products_that_are_gone() -> None:
    (said,) = warnings(terms(H100, ZONE), accelerator={"products": ["H100", "H200"]})
    assert "nodeSelectorTerms: stands in place of what spec.accelerator.products makes" in said
    assert "add {key: nvidia.com/gpu.product, operator: In, values: [H100, H200]}" in said
    assert warnings(terms(ZONE)) == []


@pytest.mark.parametrize("vendor", ["nvidia", "amd"])
def test_the_names_are_the_renderers(vendor: str) -> None:
    assert TAINTS == DEVICES
    rendered = render_endpoint(parse_endpoint(endpoint(accelerator={"vendor": vendor, "products": ["x"]})))
    assert f"'{PRODUCT_LABELS[vendor]}', 'operator': 'In'" in str(rendered)
