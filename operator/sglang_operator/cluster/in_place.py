"""What reaches a live revision without new pods: replica bounds and user_config, and nothing else. Pure.

A live RayService is never rendered anew: any other byte would wait there for KubeRay's next RayCluster. So it is always
the recorded one with a closed list of values put in. Ray restarts replicas over any other change.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import yaml

from sglang_operator.api import Endpoint
from sglang_operator.api.spec_scaling import Scaling
from sglang_operator.cluster.metadata import Owner, notes_of, with_owner
from sglang_operator.render.serve_config import live_args, replica_count
from sglang_operator.render.yaml_text import to_yaml
from sglang_serve.args import to_wire

IN_PLACE: Final = "serve.sglang.io/in-place"  # the values last written, as JSON: what a hand edit is put back to

Object = dict[str, Any]
REMEMBERED: Final = 512  # Serve configurations, some 20 kB each once parsed
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
    scaling: Mapping[str, Any] | None = None
    """spec.scaling by its YAML names, if there is one."""
    floor: int = 0
    """Of an autoscaled revision: at least so many replicas for now, as a rollout needs them."""

    @property
    def parsed_scaling(self) -> Scaling | None:
        """`scaling` as it was."""
        return Scaling.model_validate(self.scaling) if self.scaling else None

    @property
    def holds(self) -> bool:
        """It may be without a replica while it serves."""
        scaling = self.parsed_scaling
        return scaling is not None and scaling.min == 0

    @property
    def bounds(self) -> tuple[int, int]:
        """Fewest and most replicas."""
        if self.released:
            return 0, 0
        scaling = self.parsed_scaling
        return (scaling.min, scaling.max) if scaling else (self.replicas, self.replicas)

    def check(self) -> None:
        """Raises TypeError or ValueError for what nobody but a person's hand can have written."""
        whole = all(type(number) is int and number >= 0 for number in (self.replicas, self.floor))
        if not (whole and isinstance(self.user_config, Mapping) and isinstance(self.settings, str)):
            raise TypeError("not the values of an endpoint")
        _ = self.parsed_scaling

    def with_floor(self, floor: int) -> InPlace:
        """These values for a revision that shall have so many replicas at least."""
        return replace(self, floor=floor) if self.scaling else self

    def as_json(self) -> str:
        """Without what earlier versions did not know, unless it is used."""
        new = {"scaling", "floor"}
        return json.dumps({k: v for k, v in asdict(self).items() if v or k not in new}, sort_keys=True)


def in_place_of(endpoint: Endpoint, settings: str) -> InPlace:
    """What the endpoint wants of every revision that may serve."""
    spec = endpoint.spec
    scaling = spec.scaling.model_dump(mode="json", by_alias=True) if spec.scaling else None
    return InPlace(spec.replicas, to_wire(live_args(endpoint)), settings, scaling=scaling)


def live_ray_service(owner: Owner, recorded: Mapping[str, Any], values: InPlace) -> Object:
    """The RayService of a record with these values in place."""
    fewest, most = worker_bounds(recorded, values)
    spec, cluster = recorded["spec"], recorded["spec"]["rayClusterConfig"]
    groups = [{**group, "minReplicas": fewest, "maxReplicas": most} for group in cluster["workerGroupSpecs"]]
    made = {
        **spec,
        "serveConfigV2": _serve_config(spec["serveConfigV2"], values),
        "excludeHeadPodFromServeSvc": not values.holds,  # KubeRay obeys it at once
        "rayClusterConfig": {**cluster, "workerGroupSpecs": groups},
    }
    return with_owner(owner, {**recorded, "spec": made}, {IN_PLACE: values.as_json()})


def pods_per_replica(ray_service: Mapping[str, Any]) -> int:
    """Worker pods that each replica of a RayService takes: one for each bundle of its placement."""
    (deployment,) = _parse(ray_service["spec"]["serveConfigV2"])["applications"][0]["deployments"]
    return len(deployment.get("placement_group_bundles") or ()) or 1


def asked_for(ray_clusters: Sequence[Mapping[str, Any]], each: int) -> int | None:
    """Replicas of so many pods that Ray's autoscaler asks KubeRay for; None without a cluster."""
    groups = [group for cluster in ray_clusters for group in cluster["spec"].get("workerGroupSpecs") or ()]
    return max(((group.get("replicas") or 0) // each for group in groups), default=None)


def worker_bounds(ray_service: Mapping[str, Any], values: InPlace) -> tuple[int, int]:
    """Fewest and most worker pods of a revision, by its record."""
    fewest, most = values.bounds
    each = pods_per_replica(ray_service)
    return fewest * each, most * each


def written_values(live: Mapping[str, Any]) -> InPlace | None:
    """The values that were last written to a live RayService; None if somebody has spoilt the memory of them."""
    try:
        found = InPlace(**json.loads(notes_of(live).get(IN_PLACE, "")))
        found.check()
    except (ValueError, TypeError):
        return None
    return found


@functools.lru_cache(REMEMBERED)
def _parse(text: str) -> Object:
    """Shared by all who ask, three times in each pass: not to be changed."""
    config: Object = yaml.load(text, yaml.CSafeLoader)
    return config


def _serve_config(text: str, values: InPlace) -> str:
    """The recorded text itself while it says what is wanted, which it nearly always does."""
    config = _parse(text)
    (application,) = config["applications"]
    (deployment,) = application["deployments"]
    kept = {key: value for key, value in deployment.items() if key not in _COUNTS}
    counted = {"name": kept.pop("name"), **replica_count(values.replicas, values.parsed_scaling, values.floor), **kept}
    wanted = {**counted, "user_config": _known(application["args"], values.user_config)}
    if wanted == deployment:
        return text
    return to_yaml({**config, "applications": [{**application, "deployments": [wanted]}]})


def without_in_place(ray_service: Mapping[str, Any]) -> Object:
    """Its Serve configuration without what reaches a live revision: another value of the rest takes new replicas."""
    config = _parse(ray_service["spec"]["serveConfigV2"])
    (application,) = config["applications"]
    (deployment,) = application["deployments"]
    kept = {key: value for key, value in deployment.items() if key not in {*_COUNTS, "user_config"}}
    return {**config, "applications": [{**application, "deployments": [kept]}]}


def _known(args: Mapping[str, Any], user_config: Mapping[str, Any]) -> Object:
    """What replicas with these args can take: a revision without room for adapters may be older than adapters are."""
    return {key: value for key, value in user_config.items() if key != "adapters" or "lora" in args}


def cluster_patch(
    cluster: Mapping[str, Any], bounds: tuple[int, int], pods: tuple[str, ...], *, released: bool = False
) -> list[Object]:
    """JSON patch that brings bounds to a live RayCluster, which KubeRay does not do; [] if they are there.

    `bounds`: fewest and most worker pods. `pods`: their names. `released`: none shall be left. The upper bound falls
    only when pods are few enough: the autoscaler would end running ones to reach it. `replicas` is the autoscaler's,
    except when all workers are to go. What somebody else has changed since it was read is left to the next pass.
    """
    operations: list[Object] = []
    for index, group in enumerate(cluster["spec"].get("workerGroupSpecs") or ()):
        path = f"/spec/workerGroupSpecs/{index}"
        changes = _bounds(group, bounds, len(pods), released=released)
        if released and pods:
            changes |= _removal(group, pods)
        if changes:
            seen = {key: group[key] for key in ("groupName", *changes) if key in group}
            operations += [{"op": "test", "path": f"{path}/{key}", "value": value} for key, value in seen.items()]
            operations += [{"op": "add", "path": f"{path}/{key}", "value": value} for key, value in changes.items()]
    return operations


def _bounds(group: Mapping[str, Any], bounds: tuple[int, int], pods: int, *, released: bool) -> Object:
    fewest, most = bounds
    changes: Object = {}
    if group.get("minReplicas") != fewest:
        changes["minReplicas"] = fewest
    highest = group.get("maxReplicas", 0)
    if highest < most or (highest > most and (released or pods <= most)):
        changes["maxReplicas"] = most
    return changes


def _removal(group: Mapping[str, Any], pods: tuple[str, ...]) -> Object:
    """KubeRay ends named pods only, while the autoscaler is on."""
    going = tuple((group.get("scaleStrategy") or {}).get("workersToDelete") or ())
    wanted = {"replicas": 0} if group.get("replicas") else {}
    return {**wanted, "scaleStrategy": {"workersToDelete": list(pods)}} if set(going) != set(pods) else wanted
