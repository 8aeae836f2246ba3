"""Conditions that need no decision: whether the spec is valid, what the cluster lacks, whether newer defaults wait."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sglang_operator.api import InvalidEndpoint
from sglang_operator.api.errors import FieldError
from sglang_operator.api.versions import versions
from sglang_operator.cluster.api import ApiError
from sglang_operator.cluster.in_place import without_in_place
from sglang_operator.cluster.paths import RAY_SERVICE, ROUTE
from sglang_operator.cluster.records import NewerRecordError, StoredRevision
from sglang_operator.cluster.refusals import NameTakenError
from sglang_operator.lifecycle.reasons import Condition, ConditionType, Reason, Status

Object = dict[str, Any]
_LIVE_PORT: Final = "proxy-metrics"  # see templates/head-pod.yaml.j2
NO_ROUTE: Final = "spec.api.route: this cluster has no Gateway API: install its CRDs, or remove the field"


def accepted(absent: frozenset[str], wants_route: bool, warnings: Sequence[FieldError] = ()) -> Condition:
    """The spec is valid. What it asks for may still need an API that the cluster lacks, or cost more than expected."""
    if wants_route and ROUTE.name in absent:
        return Condition(ConditionType.ACCEPTED, Status.TRUE, Reason.ROUTE_ABSENT, NO_ROUTE)
    message = "\n".join(["the spec is valid", *(f"warning: {one}" for one in warnings)])
    return Condition(ConditionType.ACCEPTED, Status.TRUE, Reason.VALID, message)


def rejected(error: InvalidEndpoint) -> Condition:
    """The spec is not valid; nothing changes until it is."""
    message = f"{error}\nnothing is changed until it is corrected"
    return Condition(ConditionType.ACCEPTED, Status.FALSE, Reason.INVALID, message)


def kuberay_absent() -> Condition:
    """There is nobody to make pods."""
    message = (
        f"this cluster does not know {RAY_SERVICE.name}: install KubeRay (helm install kuberay-operator "
        f"kuberay-operator --repo https://ray-project.github.io/kuberay-helm/ --version {versions()['kuberay']} "
        "--namespace kuberay-system --create-namespace); it is picked up without a restart"
    )
    return Condition(ConditionType.PROGRESSING, Status.FALSE, Reason.KUBERAY_ABSENT, message)


def remedies(*, wants_route: bool) -> dict[str, str]:
    """What to do about kinds that an endpoint needs and the cluster may lack, by their names."""
    return {RAY_SERVICE.name: kuberay_absent().message, **({ROUTE.name: NO_ROUTE} if wants_route else {})}


def blocked(error: ApiError | NameTakenError | NewerRecordError) -> Condition:
    """What the cluster refuses, in the server's own words, or what this operator must not touch."""
    if isinstance(error, NameTakenError):
        return Condition(ConditionType.PROGRESSING, Status.FALSE, Reason.NAME_TAKEN, str(error))
    if isinstance(error, NewerRecordError):
        return Condition(ConditionType.PROGRESSING, Status.FALSE, Reason.RECORD_TOO_NEW, str(error))
    if error.is_forbidden:
        return Condition(ConditionType.PROGRESSING, Status.FALSE, Reason.FORBIDDEN, error.message + error.advice)
    reason = Reason.INVALID_OBJECT if error.is_final else Reason.REFUSED
    return Condition(ConditionType.PROGRESSING, Status.FALSE, reason, f"the cluster refuses: {error.message}")


def update_available(wanted: StoredRevision | None, rendered: Mapping[str, Any], *, serves: bool = True) -> Condition:
    """Whether the same spec would be rendered otherwise by this operator with these defaults. `wanted` is the record of
    the revision that the spec asks for, also if it does not serve (it may be a default that keeps it from that): any
    other one differs because the spec does."""
    if wanted and _template(wanted.ray_service) != _template(rendered):
        which = "newer defaults or templates wait for the next revision"
        if not serves:
            which = f"{wanted.name}, which does not serve, was recorded with other defaults or templates and keeps them"
        message = f"{which}; set another spec.restartToken to take those of now"
        return Condition(ConditionType.UPDATE_AVAILABLE, Status.TRUE, Reason.NEW_DEFAULTS, message)
    which = "the serving revision is what this operator would make of the spec"
    message = which if wanted and serves else "no revision of this spec serves yet"
    return Condition(ConditionType.UPDATE_AVAILABLE, Status.FALSE, Reason.UP_TO_DATE, message)


def _template(ray_service: Mapping[str, Any]) -> str:
    """The part that needs new pods or replicas, without the names of its own revision."""
    name = ray_service["metadata"]["name"]
    config = ray_service["spec"]["rayClusterConfig"]
    workers = [{**group, "replicas": 0, "minReplicas": 0, "maxReplicas": 0} for group in config["workerGroupSpecs"]]
    head = _without_live_port(config["headGroupSpec"])
    # Whoever stores JSON may order it: a backup that was restored has other bytes and says the same.
    parts = {**config, "headGroupSpec": head, "workerGroupSpecs": workers}, without_in_place(ray_service)
    return json.dumps(parts, sort_keys=True).replace(name, "")


def _without_live_port(head: Mapping[str, Any]) -> Object:
    """A head has this port named while it may hold requests, which spec.scaling.min says, and that goes in place."""
    template = head["template"]
    containers = [{**one, "ports": _other_ports(one)} for one in template["spec"]["containers"]]
    return {**head, "template": {**template, "spec": {**template["spec"], "containers": containers}}}


def _other_ports(container: Mapping[str, Any]) -> list[Any]:
    return [port for port in container.get("ports") or () if port.get("name") != _LIVE_PORT]
