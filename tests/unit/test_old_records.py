"""Records that an earlier version wrote cause no rollout under this one, and no new pods.

Each tests/unit/data/records-*.json is what the operator of that version or day wrote for the endpoints beside them:
v0.1's for eight of the examples, the later ones for every example and golden input there was
(hack/freeze_records.py). None is ever made anew: if this test fails, a model of somebody would restart when they
upgrade the operator.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from sglang_operator.api import parse_endpoint
from sglang_operator.cluster.in_place import IN_PLACE, in_place_of, live_ray_service
from sglang_operator.cluster.metadata import Owner
from sglang_operator.cluster.records import find_record, read_record
from sglang_operator.cluster.types import Key

Json = dict[str, Any]

FILES = sorted((Path(__file__).parent / "data").glob("records-*.json"))
WRITTEN = {f"{path.stem}-{name}": pair for path in FILES for name, pair in json.loads(path.read_text("utf-8")).items()}
TASKS = {"generate", "embed", "rerank", "score", "classify", "transcribe"}
USED = {  # what v0.1's endpoints do not: each has its own way into the pods
    ("scaling",),
    ("parallelism", "nodes"),
    ("network", "rdma"),
    ("highAvailability", "redis"),
    ("highAvailability", "spread"),
    ("model", "adapters"),
    ("model", "lora"),
    ("model", "storageSecret"),
    ("api", "allowFrom"),
}
EDITS: list[Json] = [{}, {"replicas": 1}, {"replicas": 0}, {"scaling": {"min": 0, "max": 1}}]
EACH = pytest.mark.parametrize("name", WRITTEN)


def edited(endpoint: Json, counts: Json) -> Json:
    """With other counts, if there are any, and then with other limits and another answer too: all of it in place."""
    if not counts:
        return endpoint
    kept = {key: value for key, value in endpoint["spec"].items() if key not in ("replicas", "scaling")}
    api = {**kept.get("api", {}), "limits": {"maxBodyBytes": 4096}, "unknownModel": "NotFound"}
    return {**endpoint, "spec": {**kept, **counts, "api": api}}


def fixed(ray_service: Json) -> tuple[Json, Json, Json]:
    """All of it but the closed list of what reaches running pods: its object, its Serve configuration, its notes."""
    rest = copy.deepcopy(ray_service)
    config = yaml.safe_load(rest["spec"].pop("serveConfigV2"))
    (deployment,) = config["applications"][0]["deployments"]
    for moving in ("num_replicas", "autoscaling_config", "user_config"):
        deployment.pop(moving, None)
    for group in rest["spec"]["rayClusterConfig"]["workerGroupSpecs"]:
        del group["minReplicas"], group["maxReplicas"]
    del rest["spec"]["excludeHeadPodFromServeSvc"]
    rest["metadata"].pop("ownerReferences", None)
    notes = rest["metadata"].pop("annotations", {})
    return rest, config, {key: value for key, value in notes.items() if key != IN_PLACE}


@EACH
@pytest.mark.parametrize("counts", EDITS, ids=str)
def test_a_record_is_still_what_its_spec_asks_for(name: str, counts: Json) -> None:
    record = read_record(WRITTEN[name]["record"])
    assert find_record(parse_endpoint(edited(WRITTEN[name]["endpoint"], counts)), [record]) == record


@EACH
@pytest.mark.parametrize("counts", EDITS, ids=str)
def test_what_is_applied_over_it_reaches_running_pods(name: str, counts: Json) -> None:
    endpoint = parse_endpoint(edited(WRITTEN[name]["endpoint"], counts))
    recorded = read_record(WRITTEN[name]["record"]).ray_service
    owner = Owner(Key(endpoint.namespace, endpoint.name), "uid")
    assert fixed(live_ray_service(owner, recorded, in_place_of(endpoint, "digest"))) == fixed(dict(recorded))


@pytest.mark.parametrize("path", [path for path in FILES if path.stem != "records-v0.1"], ids=lambda path: path.stem)
def test_later_files_hold_every_task_and_what_v0_1_did_not(path: Path) -> None:
    specs = [pair["endpoint"]["spec"] for pair in json.loads(path.read_text("utf-8")).values()]
    assert {spec.get("task", "generate") for spec in specs} >= TASKS
    assert {way for way in USED if any(has(spec, way) for spec in specs)} == USED


def has(spec: Json, way: tuple[str, ...]) -> bool:
    for key in way:
        spec = spec.get(key) or {}
    return bool(spec)
