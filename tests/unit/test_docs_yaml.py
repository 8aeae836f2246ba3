"""Every YAML block of README and docs/: an endpoint, a part of one, or values of the chart, as the product reads it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import schemas
import yaml

from sglang_operator.api import parse_endpoint
from sglang_operator.api.defaults import merge
from sglang_operator.render import render_endpoint

ROOT = Path(__file__).parents[2]
VALUES = json.loads((ROOT / "charts/sglang-operator/values.schema.json").read_text())["properties"]
FOREIGN = {
    "Application",
    "Kustomization",
    "PodMonitor",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}
OF_KUBERNETES = {"ConfigMap", "Job", "NetworkPolicy", "PersistentVolume", "PersistentVolumeClaim"}
OF_PROMETHEUS = {"scrape_configs"}
# What a part of a spec leaves out.
BASE = {"model": {"uri": "hf://Qwen/Qwen3-8B"}, "accelerator": {"vendor": "nvidia", "count": 1}}


def blocks() -> Iterator[Any]:
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        for number, text in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)):
            for document in yaml.safe_load_all(text):
                yield pytest.param(document, id=f"{page.relative_to(ROOT)}-{number}")


@pytest.mark.parametrize("document", list(blocks()))
def test_it_is_what_the_product_takes(document: Mapping[str, Any]) -> None:
    kind = document.get("kind", "")
    if not kind and document.keys() <= VALUES.keys() | OF_PROMETHEUS:
        return  # of the chart, or a configuration
    if kind in OF_KUBERNETES:
        assert not schemas.errors(document)
        return
    if kind not in ("", "SGLangEndpoint"):
        assert kind in FOREIGN, f"{kind} is nothing that this project reads: name it in FOREIGN"
        return
    whole = {"apiVersion": "serve.sglang.io/v1alpha1", "kind": "SGLangEndpoint", "metadata": {"name": "docs"}}
    manifest = {**whole, **document}
    assert render_endpoint(parse_endpoint(manifest if kind else merge(BASE, manifest)))
