"""docs/operations/tenants.md: its policy refuses and admits what the page says, on a real API server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from localcluster.kubectl import Refused
from waiting import wait_until

if TYPE_CHECKING:
    from localcluster import ControlPlane

PAGE = Path(__file__).parents[2] / "docs" / "operations" / "tenants.md"
SECONDS = 60.0
FOREIGN = {"engine": {"image": "docker.io/somebody/sglang:1"}}
REFUSED: dict[str, dict[str, Any]] = {
    "registry.example.com/serving": FOREIGN,
    "at most 4": {"accelerator": {"vendor": "nvidia", "count": 8}},
    "metadata only": {"podTemplate": {"worker": {"spec": {"hostNetwork": True}}}},
}
ADMITTED: tuple[dict[str, Any], ...] = (
    {},
    {"engine": {"image": "registry.example.com/serving/sglang:1"}},
    {"accelerator": {"vendor": "nvidia", "count": 4}},
    {"podTemplate": {"worker": {"metadata": {"labels": {"cost-center": "4711"}}}}},
)


@pytest.fixture
def policy(control_plane: ControlPlane, namespace: str) -> Iterator[None]:
    """The page's, for the namespace of the test."""
    (block,) = re.findall(r"```yaml\n(apiVersion: admission.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    objects = list(yaml.safe_load_all(block))
    (where,) = objects[1]["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"]
    where["values"] = [namespace]
    control_plane.kubectl.apply(objects)
    try:
        wait_until(lambda: refusal(control_plane, namespace, FOREIGN), SECONDS, "the API server to know the policy")
        yield
    finally:
        for one in objects:
            control_plane.kubectl("delete", one["kind"], one["metadata"]["name"])


def refusal(plane: ControlPlane, namespace: str, spec: dict[str, Any]) -> str:
    """Why the API server would refuse such an endpoint; "" if it would take it."""
    whole = {"model": {"uri": "hf://Qwen/Qwen3-8B"}, "accelerator": {"vendor": "nvidia", "count": 1}, **spec}
    manifest = {"apiVersion": "serve.sglang.io/v1alpha1", "kind": "SGLangEndpoint", "spec": whole}
    manifest["metadata"] = {"name": "asked", "namespace": namespace}
    try:
        plane.kubectl("create", "--dry-run=server", "--filename=-", stdin=yaml.safe_dump(manifest))
    except Refused as error:
        return str(error)
    return ""


@pytest.mark.usefixtures("policy")
def test_the_policy_of_the_page(control_plane: ControlPlane, namespace: str) -> None:
    for words, spec in REFUSED.items():
        assert words in refusal(control_plane, namespace, spec)
    for spec in ADMITTED:
        assert refusal(control_plane, namespace, spec) == ""
