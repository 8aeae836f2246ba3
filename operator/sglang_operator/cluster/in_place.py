"""What reaches a live revision without new pods: replica bounds and user_config, and nothing else. Pure.

A live RayService is never rendered anew: any other byte would wait there for KubeRay's next RayCluster. So it is always
the recorded one with a closed list of values put in. Ray restarts replicas over any other change.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import yaml

from sglang_operator.api import Endpoint
from sglang_operator.cluster.metadata import Owner, notes_of, with_owner
from sglang_operator.render.serve_config import live_args, replica_count
from sglang_operator.render.yaml_text import to_yaml
from sglang_serve.args import to_wire

IN_PLACE: Final = "serve.sglang.io/in-place"  # the values last written, as JSON: what a hand edit is put back to

Object = dict[str, Any]
_COUNTS: Final = frozenset({"num_replicas", "autoscaling_config"})


@dataclass(frozen=True)
class InPlace:
    """The values that a live revision has beside those of its record."""

    replicas: int
    user_config: Mapping[str, Any]
    settings: str
    """Their digest."""
    released: bool = False
    """No worker pods at all: the revision has failed and is kept for reading."""


def in_place_of(endpoint: Endpoint, settings: str) -> InPlace:
    """What the endpoint wants of every revision that may serve."""
    return InPlace(endpoint.spec.replicas, to_wire(live_args(endpoint)), settings)


def live_ray_service(owner: Owner, recorded: Mapping[str, Any], values: InPlace) -> Object:
    """The RayService of a record with these values in place."""
    made = copy.deepcopy(dict(recorded))
    spec = made["spec"]
    spec["serveConfigV2"] = _serve_config(spec["serveConfigV2"], values)
    bound = 0 if values.released else values.replicas
    for group in spec["rayClusterConfig"]["workerGroupSpecs"]:
        group["minReplicas"], group["maxReplicas"] = bound, bound
    return with_owner(owner, made, {IN_PLACE: json.dumps(asdict(values), sort_keys=True)})


def written_values(live: Mapping[str, Any]) -> InPlace | None:
    """The values that were last written to a live RayService; None if somebody has spoilt the memory of them."""
    try:
        return InPlace(**json.loads(notes_of(live).get(IN_PLACE, "")))
    except (ValueError, TypeError):
        return None


def _serve_config(text: str, values: InPlace) -> str:
    config = yaml.load(text, yaml.CSafeLoader)
    (deployment,) = config["applications"][0]["deployments"]
    kept = {key: value for key, value in deployment.items() if key not in _COUNTS}
    counted = {"name": kept.pop("name"), **replica_count(values.replicas), **kept}
    config["applications"][0]["deployments"] = [{**counted, "user_config": dict(values.user_config)}]
    return to_yaml(config)


def cluster_patch(cluster: Mapping[str, Any], values: InPlace, pods: tuple[str, ...]) -> list[Object]:
    """JSON patch that brings bounds to a live RayCluster, which KubeRay does not do; [] if they are there.

    `pods`: names of its worker pods. The upper bound falls only when pods are few enough: the autoscaler would end
    running ones to reach it. `replicas` is the autoscaler's, except when all workers are to go.
    """
    operations: list[Object] = []
    for index, group in enumerate(cluster["spec"].get("workerGroupSpecs") or ()):
        bound = 0 if values.released else values.replicas
        path = f"/spec/workerGroupSpecs/{index}"
        changes = _bounds(group, bound, len(pods), values.released)
        if values.released and pods:
            changes |= _removal(group, pods)
        if changes:
            operations.append({"op": "test", "path": f"{path}/groupName", "value": group["groupName"]})
            operations += [{"op": "add", "path": f"{path}/{key}", "value": value} for key, value in changes.items()]
    return operations


def _bounds(group: Mapping[str, Any], bound: int, pods: int, released: bool) -> Object:
    changes: Object = {}
    if group.get("minReplicas") != bound:
        changes["minReplicas"] = bound
    highest = group.get("maxReplicas", 0)
    if highest < bound or (highest > bound and (released or pods <= bound)):
        changes["maxReplicas"] = bound
    if "minReplicas" in changes and bound > changes.get("maxReplicas", highest):
        changes["maxReplicas"] = bound
    return changes


def _removal(group: Mapping[str, Any], pods: tuple[str, ...]) -> Object:
    """KubeRay ends named pods only, while the autoscaler is on."""
    going = tuple((group.get("scaleStrategy") or {}).get("workersToDelete") or ())
    wanted = {"replicas": 0} if group.get("replicas") else {}
    return {**wanted, "scaleStrategy": {"workersToDelete": list(pods)}} if set(going) != set(pods) else wanted
