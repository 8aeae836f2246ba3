"""What reaches a live revision without new pods: replica bounds and user_config, and nothing else. Pure.

A live RayService is never rendered anew: any other byte would wait there for KubeRay's next RayCluster. So it is always
the recorded one with a closed list of values put in. Ray restarts replicas over any other change.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import yaml

from sglang_operator.api import Endpoint, shallow_yaml
from sglang_operator.api.spec_scaling import HOLD_SECONDS, Scaling
from sglang_operator.cluster.metadata import SPOILT, Owner, notes_of, read_seconds, with_owner
from sglang_operator.lifecycle.observed import TakenBack
from sglang_operator.render.serve_config import live_args, replica_count
from sglang_operator.render.yaml_text import to_yaml
from sglang_serve.args import to_wire

IN_PLACE: Final = "serve.sglang.io/in-place"  # the values last written, as JSON: what a hand edit is put back to

Object = dict[str, Any]
MODEL_COMMIT: Final = "model_commit"  # of LiveArgs: the one value that is the record's, not the spec's
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
    holding: bool = False
    """Its head stays in the Service although a replica is wanted, until one answers."""
    at_most: int = 0
    """So many replicas where more are wanted: one more has given back the nodes that it had of several. 0: no limit."""
    at_most_since: float = 0.0
    """Unix seconds."""

    @property
    def parsed_scaling(self) -> Scaling | None:
        """`scaling` as it was."""
        return Scaling.model_validate(self.scaling) if self.scaling else None

    @property
    def taken_back(self) -> TakenBack | None:
        """As decisions read it."""
        return TakenBack(self.at_most, self.at_most_since) if self.at_most else None

    @property
    def counts(self) -> tuple[int, Scaling | None]:
        """`replicas` and `scaling` within the limit."""
        scaling = self.parsed_scaling
        if scaling and self.at_most:
            limits = {"min": self.capped(scaling.min), "max": self.capped(scaling.max)}
            scaling = scaling.model_copy(update=limits)
        return self.capped(self.replicas), scaling

    @property
    def holds(self) -> bool:
        """It may be without a replica while it serves."""
        scaling = self.parsed_scaling
        return self.holding or (scaling is not None and scaling.min == 0)

    @property
    def bounds(self) -> tuple[int, int]:
        """Fewest and most replicas."""
        if self.released:
            return 0, 0
        replicas, scaling = self.counts
        return (scaling.min, scaling.max) if scaling else (replicas, replicas)

    def check(self) -> None:
        """Raises TypeError or ValueError for what nobody but a person's hand can have written."""
        whole = all(type(number) is int and number >= 0 for number in (self.replicas, self.floor, self.at_most))
        is_time = type(self.at_most_since) in (int, float) and read_seconds(self.at_most_since) is not None
        if not (whole and is_time and isinstance(self.user_config, Mapping) and isinstance(self.settings, str)):
            raise TypeError("not the values of an endpoint")
        _ = self.parsed_scaling

    def with_floor(self, floor: int, *, holding: bool = False) -> InPlace:
        """These values for a revision that shall have so many replicas at least, and hold requests or not; even where
        spec.scaling has gone these do not wait for ever."""
        limit = {"hold_seconds": HOLD_SECONDS} if holding and not self.scaling else {}
        user_config = {**self.user_config, **limit}
        return replace(self, floor=floor if self.scaling else 0, holding=holding, user_config=user_config)

    def within(self, taken: TakenBack | None) -> InPlace:
        """These values for a revision that shall have no more replicas than these."""
        return replace(self, at_most=taken.replicas if taken else 0, at_most_since=taken.at if taken else 0.0)

    def capped(self, replicas: int) -> int:
        """So many, or the limit."""
        return min(replicas, self.at_most) if self.at_most else replicas

    def as_json(self) -> str:
        """Without what earlier versions did not know, unless it is used."""
        new = {"scaling", "floor", "holding", "at_most", "at_most_since"}
        return json.dumps({k: v for k, v in asdict(self).items() if v or k not in new}, sort_keys=True)


def in_place_of(endpoint: Endpoint, settings: str) -> InPlace:
    """What the endpoint wants of every revision that may serve."""
    spec = endpoint.spec
    scaling = spec.scaling.model_dump(mode="json", by_alias=True) if spec.scaling else None
    return InPlace(spec.replicas, to_wire(live_args(endpoint)), settings, scaling=scaling)


def live_ray_service(
    owner: Owner,
    recorded: Mapping[str, Any],
    values: InPlace,
    commit: str = "",
    live: Mapping[str, Any] | None = None,
) -> Object:
    """The RayService of a record with these values in place, and what its model's branch is held to be. `live`: as it
    is now, if it is."""
    fewest, most = worker_bounds(recorded, values)
    spec, cluster = recorded["spec"], recorded["spec"]["rayClusterConfig"]
    groups = [{**group, "minReplicas": fewest, "maxReplicas": most} for group in cluster["workerGroupSpecs"]]
    made = {
        **spec,
        "serveConfigV2": _serve_config(spec["serveConfigV2"], values, commit, is_fixed=_is_fixed(live, recorded)),
        "excludeHeadPodFromServeSvc": not values.holds,  # KubeRay obeys it at once
        "rayClusterConfig": {**cluster, "workerGroupSpecs": groups},
    }
    return with_owner(owner, {**recorded, "spec": made}, {IN_PLACE: values.as_json()})


def pods_per_replica(ray_service: Mapping[str, Any]) -> int:
    """Worker pods that each replica of a RayService takes: one for each bundle of its placement."""
    return len(_deployment(ray_service).get("placement_group_bundles") or ()) or 1


def recorded_user_config(ray_service: Mapping[str, Any]) -> Mapping[str, Any]:
    """What replicas were told at first."""
    return _deployment(ray_service).get("user_config") or {}


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
    except SPOILT:
        return None
    return found


@functools.lru_cache(REMEMBERED)
def _parse(text: str) -> Object:
    """Shared by all who ask, three times in each pass: not to be changed."""
    config: Object = shallow_yaml.load(text)
    return config


def _deployment(ray_service: Mapping[str, Any]) -> Object:
    """The only one of its application; shared, as what `_parse` gives."""
    (found,) = _parse(ray_service["spec"]["serveConfigV2"])["applications"][0]["deployments"]
    deployment: Object = found
    return deployment


def _serve_config(text: str, values: InPlace, commit: str, *, is_fixed: bool) -> str:
    """The recorded text itself while it says what is wanted, which it nearly always does."""
    config = _parse(text)
    (application,) = config["applications"]
    (deployment,) = application["deployments"]
    kept = {key: value for key, value in deployment.items() if key not in _COUNTS}
    counted = {"name": kept.pop("name"), **_count(values, is_fixed=is_fixed), **kept}
    told = {**values.user_config, **({MODEL_COMMIT: commit} if _has_place_for_commit(deployment) else {})}
    wanted = {**counted, "user_config": _in_order(_known(application["args"], told))}
    if wanted == deployment:
        return text
    return to_yaml({**config, "applications": [{**application, "deployments": [wanted]}]})


def _is_fixed(live: Mapping[str, Any] | None, recorded: Mapping[str, Any]) -> bool:
    """Whether Serve knows its replicas by `num_replicas`, as all did before a fixed count was written as equal bounds.
    What runs says so; the record, where nothing does or somebody has spoilt it."""
    for one in filter(None, (live, recorded)):
        with suppress(yaml.YAMLError, LookupError, TypeError, ValueError):
            return "num_replicas" in _deployment(one)
    return False


def _count(values: InPlace, *, is_fixed: bool) -> Object:
    """How many replicas. What has `num_replicas` keeps it: the change restarts all of them, which is left to
    spec.scaling or to the next revision."""
    replicas, scaling = values.counts
    if is_fixed and replicas > 0 and not scaling:
        return {"num_replicas": replicas}
    return replica_count(replicas, scaling, values.floor)


def _in_order(user_config: Object) -> Object:
    """As the memory of what was written gives it back: in another order it would be another text, written once more."""
    ordered: Object = json.loads(json.dumps(user_config, sort_keys=True))
    return ordered


def takes_commit(recorded: Mapping[str, Any]) -> bool:
    """Its model is a branch of the hub, and its image is none of those from before replicas were told of a commit."""
    return _has_place_for_commit(_deployment(recorded))


def _has_place_for_commit(deployment: Mapping[str, Any]) -> bool:
    return MODEL_COMMIT in (deployment.get("user_config") or {})


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
    cluster: Mapping[str, Any],
    bounds: tuple[int, int],
    pods: tuple[str, ...],
    *,
    waiting: int = 0,
    released: bool = False,
) -> list[Object]:
    """JSON patch that brings bounds to a live RayCluster, which KubeRay does not do; [] if they are there.

    `bounds`: fewest and most worker pods. `pods`: their names. `waiting`: how many of them have no node. `released`:
    none shall be left. The upper bound falls no further than to the pods that have nodes: the autoscaler would end
    running ones to reach it, after those that never ran. `replicas` is the autoscaler's, except when all workers are to
    go. What somebody else has changed since it was read is left to the next pass.
    """
    operations: list[Object] = []
    for index, group in enumerate(cluster["spec"].get("workerGroupSpecs") or ()):
        path = f"/spec/workerGroupSpecs/{index}"
        changes = _bounds(group, bounds, 0 if released else len(pods) - waiting)
        if released and pods:
            changes |= _removal(group, pods)
        if changes:
            seen = {key: group[key] for key in ("groupName", *changes) if key in group}
            operations += [{"op": "test", "path": f"{path}/{key}", "value": value} for key, value in seen.items()]
            operations += [{"op": "add", "path": f"{path}/{key}", "value": value} for key, value in changes.items()]
    return operations


def _bounds(group: Mapping[str, Any], bounds: tuple[int, int], placed: int) -> Object:
    fewest, most = bounds
    changes: Object = {}
    if group.get("minReplicas") != fewest:
        changes["minReplicas"] = fewest
    highest = group.get("maxReplicas", 0)
    wanted = max(most, min(highest, placed))
    if highest != wanted:
        changes["maxReplicas"] = wanted
    return changes


def _removal(group: Mapping[str, Any], pods: tuple[str, ...]) -> Object:
    """KubeRay ends named pods only, while the autoscaler is on."""
    going = tuple((group.get("scaleStrategy") or {}).get("workersToDelete") or ())
    wanted = {"replicas": 0} if group.get("replicas") else {}
    return {**wanted, "scaleStrategy": {"workersToDelete": list(pods)}} if set(going) != set(pods) else wanted
