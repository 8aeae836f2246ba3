"""What Ray takes for new code of an application, and so restarts all replicas: no change in place is."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from unit.test_cluster_in_place import OWNER, rendered, values

from sglang_operator.cluster.in_place import InPlace, live_ray_service
from sglang_operator.lifecycle.observed import TakenBack

Json = dict[str, Any]

# Runs in the engine environment: the configurations as KubeRay sends them, and what Ray compares of each.
PROBE = """
import json, sys, yaml
from ray.serve._private.deploy_utils import get_app_code_version
from ray.serve.schema import ServeDeploySchema
configs = [ServeDeploySchema.model_validate(yaml.safe_load(text)) for text in json.load(sys.stdin)]
print(json.dumps([get_app_code_version(app) for config in configs for app in config.applications]))
"""
TOLD = "1" * 40
LORA = {"maxRank": 16}
SQL, LEGAL = ({"name": name, "uri": f"hf://org/{name}"} for name in ("sql", "legal"))
MODEL = {"uri": "hf://Qwen/Qwen3-8B", "lora": LORA, "adapters": [SQL]}
WIDE = {"parallelism": {"nodes": 2}, "accelerator": {"count": 8}}
SCALING = {"min": 1, "max": 4}


def config_of(ray_service: Json) -> str:
    text: str = ray_service["spec"]["serveConfigV2"]
    return text


def pair_of(spec: Json, wanted: InPlace) -> tuple[str, str]:
    """As it is recorded, and with what is wanted in place."""
    recorded = rendered(**spec)
    return config_of(recorded), config_of(live_ray_service(OWNER, recorded, wanted, TOLD))


# What is recorded, and what is brought to it.
IN_PLACE: dict[str, tuple[Json, InPlace]] = {
    "replicas": ({}, values(replicas=3)),
    "replicas of two nodes, one taken back": (WIDE, values(**WIDE, replicas=3).within(TakenBack(2, 1000.5))),
    "limits": ({}, values(api={"unknownModel": "NotFound", "limits": {"maxBodyBytes": 4096}})),
    "adapters": ({"model": MODEL}, values(model={**MODEL, "adapters": [LEGAL]})),
    "bounds": ({"scaling": SCALING}, values(scaling={"min": 2, "max": 9, "targetOngoingRequests": 5})),
    "down to zero": ({"scaling": SCALING}, values(scaling={"min": 0, "max": 4, "holdSeconds": 5})),
    "scaling comes": ({}, values(scaling=SCALING)),
    "scaling goes": ({"scaling": SCALING}, values()),
    "stopped": ({}, values(replicas=0)),
    "a floor": ({"scaling": SCALING}, values(scaling=SCALING).with_floor(3, holding=True)),
}
NEW_CODE: dict[str, Json] = {
    "an argument of the engine": {"engine": {"args": {"context_length": 4096}}},
    "another name": {"model": {"uri": "hf://Qwen/Qwen3-8B", "servedName": "other"}},
    "room for adapters": {"model": {"uri": "hf://Qwen/Qwen3-8B", "lora": LORA}},
}
RENDERED = config_of(rendered())
PAIRS = {name: pair_of(*case) for name, case in IN_PLACE.items()} | {
    name: (RENDERED, config_of(rendered(**spec))) for name, spec in NEW_CODE.items()
}


@pytest.fixture(scope="module")
def pairs(engine_python: Path) -> dict[str, tuple[str, str]]:
    """Versions before and after each change, all of one run: it takes seconds to import Ray Serve."""
    texts = json.dumps([text for pair in PAIRS.values() for text in pair])
    done = subprocess.run([engine_python, "-c", PROBE], input=texts, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    versions = iter(json.loads(done.stdout.splitlines()[-1]))
    return dict(zip(PAIRS, zip(versions, versions, strict=True), strict=True))


@pytest.mark.parametrize("change", IN_PLACE)
def test_a_change_in_place_is_no_new_code(pairs: dict[str, tuple[str, str]], change: str) -> None:
    assert PAIRS[change][0] != PAIRS[change][1], "the configuration has changed"
    assert pairs[change][0] == pairs[change][1]


@pytest.mark.parametrize("change", NEW_CODE)
def test_what_needs_another_engine_is(pairs: dict[str, tuple[str, str]], change: str) -> None:
    assert pairs[change][0] != pairs[change][1]
