"""What docs/how-to/install.md tells to put into values reaches operator and defaults, by each Helm."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from chart.conftest import ROOT, Chart
from chart.rendered import container, one, pod

pytestmark = pytest.mark.chart

Json = dict[str, Any]
PAGE = (ROOT / "docs/how-to/install.md").read_text(encoding="utf-8")
VALUES = {
    "head": "without accelerators",
    "images": "publishes no images yet",
    "air-gapped": "## Air-gapped, proxy, own CA, private registry",
}


def values_after(text: str) -> Json:
    """The first values.yaml on the page after `text`."""
    block = re.search(r"```yaml\n# values.yaml\n(.*?)```", PAGE.partition(text)[2], re.DOTALL)
    assert block
    found: Json = yaml.safe_load(block[1].replace("sha256:…", "sha256:" + "0" * 64))
    return found


def defaults_in(objects: list[Json]) -> Any:
    return yaml.safe_load(one(objects, "ConfigMap")["data"]["defaults.yaml"])


@pytest.mark.parametrize("text", VALUES.values(), ids=VALUES)
def test_defaults_arrive_as_they_are_on_the_page(chart: Chart, text: str) -> None:
    """Also a null, which Helm removes where the chart has a value of its own."""
    values = values_after(text)
    assert defaults_in(chart.render(values)) == values.get("defaults", {})


def test_a_null_is_what_lets_heads_go_everywhere(chart: Chart) -> None:
    head = defaults_in(chart.render(values_after(VALUES["head"])))["podTemplate"]["head"]["spec"]
    assert head == {"affinity": None}


def test_images(chart: Chart) -> None:
    found = container(chart.render(values_after(VALUES["images"])))
    assert found["image"].startswith("registry.example.com/serving/sglang-operator:")
    assert "--image=cpu=registry.example.com/serving/sglang-serve-cpu:1" in found["args"]
    assert "--image=nvidia=registry.example.com/serving/sglang-serve-cuda:1" in found["args"]
    assert not [arg for arg in container(chart.render())["args"] if arg.startswith("--image")]


def test_the_operator_is_pulled_with_the_secret(chart: Chart) -> None:
    template = pod(chart.render(values_after(VALUES["air-gapped"])))
    assert template["spec"]["imagePullSecrets"] == [{"name": "registry"}]


def test_the_operator_keeps_to_one_architecture_with_its_endpoints(chart: Chart) -> None:
    page = (ROOT / "docs/how-to/choose-nodes.md").read_text(encoding="utf-8")
    block = re.search(
        r"```yaml\n# values.yaml\n(.*?)```", page.partition("## Nodes of two architectures")[2], re.DOTALL
    )
    assert block
    values = yaml.safe_load(block[1])
    objects = chart.render(values)
    assert pod(objects)["spec"]["nodeSelector"] == {"kubernetes.io/arch": "amd64"}
    assert defaults_in(objects) == values["defaults"]
