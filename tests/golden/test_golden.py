"""Whole outputs against committed files. `make golden` renews them; the diff is what a review reads."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import schemas
import yaml

from sglang_operator.api import Endpoint
from sglang_operator.cli.manifests import read_endpoints
from sglang_operator.render import render_endpoint, to_yaml

pytestmark = pytest.mark.golden

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"
# Name of a directory here -> the endpoint: its input.yaml, or the example of that name.
CASES = {path.parent.name: path for path in HERE.glob("*/input.yaml")} | {
    f"example-{path.stem}": path for path in EXAMPLES.glob("*.yaml")
}


@pytest.fixture(params=sorted(CASES))
def case(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def endpoint(case: str) -> Endpoint:
    (endpoint,) = read_endpoints([str(CASES[case])])
    return endpoint


def test_output_is_the_committed_one(case: str, endpoint: Endpoint, request: pytest.FixtureRequest) -> None:
    rendered = to_yaml(*render_endpoint(endpoint))
    path = HERE / case / "output.yaml"
    if request.config.getoption("--update-golden"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(rendered, encoding="utf-8")
    assert path.exists(), f"no {path}: make golden"
    assert rendered == path.read_text(encoding="utf-8"), "read the difference, then: make golden"


def test_an_api_server_would_take_every_object(endpoint: Endpoint) -> None:
    for rendered in render_endpoint(endpoint):
        assert schemas.errors(rendered) == [], rendered["kind"]


def test_text_reads_back_as_the_objects(endpoint: Endpoint) -> None:
    objects = render_endpoint(endpoint)
    assert list(yaml.load_all(to_yaml(*objects), yaml.CSafeLoader)) == list(objects)


def test_every_committed_output_has_an_input() -> None:
    assert {path.parent.name for path in HERE.glob("*/output.yaml")} == set(CASES)


def test_the_bytes_do_not_depend_on_hash_seeds() -> None:
    command = [sys.executable, "-m", "sglang_operator", "render", "-f", str(EXAMPLES)]
    outputs = {
        subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def broken(rendered: dict[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The object with one mistake each that an API server refuses."""
    yield {**rendered, "sepc": {}}
    yield {**rendered, "spec": {**rendered["spec"], "serveConfig": "x"}}


def test_validation_sees_mistakes() -> None:
    for example in ("api-keys", "gateway", "model-cache"):
        (endpoint,) = read_endpoints([str(EXAMPLES / f"{example}.yaml")])
        for rendered in render_endpoint(endpoint):
            for mistake in broken(rendered):
                assert schemas.errors(mistake), f"{rendered['kind']} with a mistake passes"


def test_validation_sees_mistakes_deep_in_pod_templates() -> None:
    (endpoint,) = read_endpoints([str(EXAMPLES / "smollm2.yaml")])
    ray_service = next(one for one in render_endpoint(endpoint) if one["kind"] == "RayService")
    container = ray_service["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]
    container["readinessProbe"]["httpGet"]["prot"] = 1
    container["env"][0]["value"] = 5
    ray_service["spec"]["rayClusterConfig"]["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0
    assert len(schemas.errors(ray_service)) == 3
