"""What the metrics say of each endpoint: read from its status, and gone with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry, Gauge

from sglang_operator.cluster.metadata import condition_of
from sglang_operator.cluster.types import Key
from sglang_operator.lifecycle.reasons import ConditionType, Reason, Status

READY: Final = "endpoint_ready"
CONDITION: Final = "endpoint_condition"
REPLICAS: Final = "endpoint_replicas"
ACCELERATORS: Final = "accelerators"
# By name without prefix: what it says, and its labels after namespace and name.
_FAMILIES: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    READY: ("1 if the endpoint is Ready; none while it is stopped.", ()),
    CONDITION: ("1 if the condition is True, 0 if it is False; none while it is Unknown.", ("type", "reason")),
    REPLICAS: ("Replicas of the endpoint that are ready, and that it shall have now.", ("state",)),
    ACCELERATORS: ("Accelerators that the endpoint holds.", ("state",)),
}
Labels = tuple[str, ...]
"""Values of the labels after namespace and name."""


def series_of(status: Mapping[str, Any]) -> dict[str, dict[Labels, float]]:
    """The series of one endpoint by name of their family, from its status. Pure."""
    return {
        READY: _ready(status),
        CONDITION: dict(_conditions(status)),
        REPLICAS: {
            ("ready",): status.get("readyReplicas") or 0,
            ("desired",): status.get("desiredReplicas") or 0,
        },
        ACCELERATORS: _accelerators(status.get("accelerators") or {}),
    }


def _ready(status: Mapping[str, Any]) -> dict[Labels, float]:
    ready = condition_of({"status": status}, ConditionType.READY.value)
    if ready.get("reason") == Reason.STOPPED.value:  # by its owner: nobody need be called
        return {}
    return {(): ready.get("status") == Status.TRUE.value}


def _conditions(status: Mapping[str, Any]) -> Iterator[tuple[Labels, float]]:
    for one in status.get("conditions") or ():
        if one["status"] != Status.UNKNOWN.value:
            yield (one["type"], one.get("reason", "")), one["status"] == Status.TRUE.value


def _accelerators(held: Mapping[str, int]) -> dict[Labels, float]:
    rollout = held.get("rollout") or 0
    return {("serving",): (held.get("allocated") or 0) - rollout, ("rollout",): rollout}


class EndpointMetrics:
    """Gauges with a few series for each endpoint. A series that its status does not have any more is dropped."""

    def __init__(self, prefix: str, registry: CollectorRegistry) -> None:
        self._gauges = {
            name: Gauge(f"{prefix}{name}", text, ("namespace", "name", *labels), registry=registry)
            for name, (text, labels) in _FAMILIES.items()
        }
        self._held: dict[Key, dict[str, dict[Labels, float]]] = {}

    def report(self, key: Key, status: Mapping[str, Any] | None) -> None:
        """The status of an endpoint after a pass; None: it is gone."""
        before = self._held.pop(key, {})
        now = {} if status is None else series_of(status)
        if now:
            self._held[key] = now
        for name, gauge in self._gauges.items():
            for gone in before.get(name, {}).keys() - now.get(name, {}).keys():
                gauge.remove(*key, *gone)
            for labels, value in now.get(name, {}).items():
                gauge.labels(*key, *labels).set(value)

    def keep_only(self, keys: Iterable[Key]) -> None:
        """Drop the series of endpoints that are gone, also of those whose deletion no watch has told."""
        for key in self._held.keys() - set(keys):
            self.report(key, None)
