"""What is reported: status of the endpoint, from the same facts as the plan. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sglang_operator.api import API_VERSION, KIND, Endpoint
from sglang_operator.cluster.adapters import adapter_rows
from sglang_operator.cluster.metadata import stamp, unix
from sglang_operator.cluster.observe import Sight, View
from sglang_operator.cluster.pods import NODE_TYPE, WORKER, first_created, has_node, is_worker
from sglang_operator.cluster.records import StoredRevision, changes
from sglang_operator.lifecycle.reasons import Condition
from sglang_operator.render import names
from sglang_operator.render.shape import shape_of

REPORTED: Final = 5  # revisions
HTTP_PORT: Final = 80
Object = dict[str, Any]


@dataclass(frozen=True)
class Facts:
    """What a status is made of."""

    endpoint: Endpoint
    view: View
    records: Sequence[StoredRevision]
    wanted: str
    """Name of the revision that the spec asks for."""
    before: Mapping[str, Any]
    """The status as it is."""
    now: float
    told: Mapping[str, Endpoint] = field(default_factory=dict)
    """The endpoint as revisions are told of it in place that are not told all, by their names."""


def status_of(facts: Facts) -> Object:
    """All of status but conditions and observedGeneration."""
    serving = facts.view.sights.get(facts.view.observed.service.revision)
    found = {
        "url": url_of(facts.endpoint),
        "replicas": serving.revision.live.worker_pods // serving.pods_per_replica if serving else 0,
        "readyReplicas": serving.revision.live.ready_replicas if serving else 0,
        "desiredReplicas": _desired(facts.endpoint, serving),
        **_sleep(facts, serving),
        "selector": f"{names.ENDPOINT}={facts.endpoint.name},{NODE_TYPE}={WORKER}",
        "accelerators": _accelerators(facts),
        "serving": _serving(facts),
        "resolved": _resolved(facts.endpoint),
        "updating": _updating(facts),
        "adapters": _adapters(facts, serving),
        "revisions": [_report(facts, stored) for stored in _newest(facts.records)[:REPORTED]],
    }
    return {key: value for key, value in found.items() if value is not None}


def _adapters(facts: Facts, serving: Sight | None) -> list[Object] | None:
    reports = serving.answers.reports if serving else ()
    return adapter_rows(facts.endpoint, reports, facts.told.get(facts.view.observed.service.revision))


def _desired(endpoint: Endpoint, serving: Sight | None) -> int:
    target = serving.revision.live.target_replicas if serving and endpoint.spec.scaling else None
    return endpoint.spec.fewest if target is None else target


def _sleep(facts: Facts, serving: Sight | None) -> Object:
    """Since when there is no replica, and how long the last wake-up took. That it slept only its status remembers, also
    while its head holds requests until it has the replica that the spec wants by now."""
    if serving is None:
        return {}
    live = serving.revision.live
    if not (facts.endpoint.spec.holds_requests or live.holds or live.may_hold):
        return {}
    since, woke = facts.before.get("atZeroSince"), facts.before.get("lastWakeSeconds")
    if serving.revision.asleep:
        since = since or stamp(facts.now)
    elif since and serving.revision.running:
        # Not until the pod is Ready: it is as soon as its front is. A pod from before the sleep tells of no wake-up.
        began = first_created(pod for pod in serving.pods if is_worker(pod) and _created(pod) >= unix(since))
        since, woke = None, round(facts.now - began) if began else woke
    return {"atZeroSince": since, "lastWakeSeconds": woke}


def _created(pod: Mapping[str, Any]) -> float:
    return unix(pod["metadata"].get("creationTimestamp"))


def conditions(
    now: float, generation: int, found: Iterable[Condition], before: Sequence[Mapping[str, Any]]
) -> list[Object]:
    """As status keeps them: the time of a condition changes with its status only."""
    known = {one["type"]: one for one in before}
    return [
        {
            "type": one.type.value,
            "status": one.status.value,
            "observedGeneration": generation,
            "lastTransitionTime": _since(known.get(one.type.value), one, now),
            "reason": one.reason.value,
            "message": _message(one)[:32_768],
        }
        for one in found
    ]


def _message(one: Condition) -> str:
    return one.message if one.again_at is None else f"{one.message}; it is tried again at {stamp(one.again_at)}"


def status_patch(live: Mapping[str, Any], status: Mapping[str, Any]) -> Object:
    """The object that is applied to the status subresource of what was read: somebody may have made another of its name
    meanwhile, which must not be called Ready. Its uid would not tell: on this way the API server takes the stored one.
    """
    metadata = {name: live["metadata"][name] for name in ("name", "namespace", "resourceVersion")}
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "status": dict(status)}


def url_of(endpoint: Endpoint) -> str:
    """Where clients inside the cluster find it."""
    port = endpoint.spec.api.service.port
    return f"http://{endpoint.name}.{endpoint.namespace}.svc" + ("" if port == HTTP_PORT else f":{port}")


def _since(before: Mapping[str, Any] | None, now_found: Condition, now: float) -> str:
    if before and before["status"] == now_found.status.value:
        return str(before["lastTransitionTime"])
    return stamp(now)


def _accelerators(facts: Facts) -> Object:
    """Each revision's pods hold what its record gives them, whatever the spec says today."""
    each = {stored.name: _of_each_pod(stored) for stored in facts.records}
    held = {name: each.get(name, 0) * _placed(sight) for name, sight in facts.view.sights.items()}
    serving = facts.view.observed.service.revision
    return {"allocated": sum(held.values()), "rollout": sum(held.values()) - held.get(serving, 0)}


def _of_each_pod(stored: StoredRevision) -> int:
    """What Ray is told of a worker, which is so whatever the accelerators are called there."""
    return int(_worker_group(stored)["rayStartParams"]["num-gpus"])


def _worker_group(stored: StoredRevision) -> Mapping[str, Any]:
    (group,) = stored.ray_service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    found: Mapping[str, Any] = group
    return found


def _placed(sight: Sight) -> int:
    return sum(is_worker(pod) and has_node(pod) for pod in sight.pods)


def _serving(facts: Facts) -> Object | None:
    name = facts.view.observed.service.revision
    stored = next((one for one in facts.records if one.name == name), None)
    if stored is None:
        return None
    found = {"revision": name, "image": _image(stored), "model": str(stored.fields.get("model.uri", ""))}
    commit = _commit(facts, name)
    return {**found, "modelCommit": commit} if commit else found


def _resolved(endpoint: Endpoint) -> Object:
    shape, parallelism = shape_of(endpoint), endpoint.spec.parallelism
    found = {
        "servedName": endpoint.spec.model.served_name,
        "vendor": endpoint.spec.accelerator.vendor,
        "resourceName": shape.resource_name or None,
        "acceleratorsPerReplica": shape.accelerators,
        "podsPerReplica": shape.pods,
        "tensor": parallelism.tensor,
        "pipeline": parallelism.pipeline,
        "data": parallelism.data,
    }
    return {key: value for key, value in found.items() if value is not None}


def _commit(facts: Facts, name: str) -> str:
    """What its replicas say; what they said last, while none answers."""
    sight = facts.view.sights.get(name)
    said = sight.answers.commits if sight else frozenset()
    before = facts.before.get("serving") or {}
    known = str(before.get("modelCommit", "")) if before.get("revision") == name else ""
    return known if known in said or not said else min(said)


def _image(stored: StoredRevision) -> str:
    return str(_worker_group(stored)["template"]["spec"]["containers"][0]["image"])


def _updating(facts: Facts) -> Object | None:
    observed = facts.view.observed
    sight = facts.view.sights.get(facts.wanted)
    if sight is None or not sight.revision.present:
        return None
    if any(one.name == facts.wanted and one.record.failure for one in facts.records):
        return None  # what is left of it is kept for reading
    # One that serves is on its way, too, while it wakes up, grows or recovers.
    if facts.wanted == observed.service.revision and not _lacks_replicas(facts.endpoint, sight):
        return None
    serving = next((one for one in facts.records if one.name == observed.service.revision), None)
    counts = {} if sight.revision.begins_anew else {"countsFrom": stamp(observed.counts_from)}
    return {
        "revision": facts.wanted,
        "step": sight.said.step or "Pending",
        "progress": sight.said.message,
        **counts,
        "changed": list(changes(facts.endpoint, serving)) if serving else [],
    }


def _lacks_replicas(endpoint: Endpoint, sight: Sight) -> bool:
    return sight.revision.live.ready_replicas < _desired(endpoint, sight)


def _report(facts: Facts, stored: StoredRevision) -> Object:
    failure = stored.record.failure
    report: Object = {"name": stored.name, "number": stored.record.number, "state": _state(facts, stored)}
    if stored.commit:
        report["modelCommit"] = stored.commit
    if failure:
        told = {"reason": failure.reason, "message": failure.message, "log": list(failure.log_tail)}
        return {**report, **told, "time": stamp(failure.at)}
    return {**report, "log": [], "time": stored.recorded_at}


def _state(facts: Facts, stored: StoredRevision) -> str:
    if stored.record.failure:
        return "Failed"
    if stored.name == facts.view.observed.service.revision:
        return "Serving"
    sight = facts.view.sights.get(stored.name)
    if sight is None or sight.revision.gone:
        return "Past"
    return "Updating" if stored.name == facts.wanted else "Draining"


def _newest(records: Iterable[StoredRevision]) -> list[StoredRevision]:
    return sorted(records, key=lambda stored: -stored.record.number)
