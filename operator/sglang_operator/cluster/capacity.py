"""Advice on accelerators before there is a pod: whether any node could take one at all.

Advice only: nodes may be on their way, and what is free is the scheduler's business, whose words status has once there
are pods.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sglang_operator.api.errors import FieldError
from sglang_operator.cluster.api import Api, ApiError
from sglang_operator.cluster.in_place import pods_per_replica

log: Final = logging.getLogger(__name__)

NODES: Final = "/api/v1/nodes"
KNOWN_SECONDS: Final = 60.0  # thousands of nodes are megabytes, and they change rarely
UNKNOWN: Final = FieldError(
    "spec.accelerator",
    None,
    "whether any node has enough for a replica is unknown, as the operator may not list nodes",
    "condition Progressing has the scheduler's words once there are pods; the chart's rbac.nodes grants the right",
)
Object = Mapping[str, Any]


@dataclass(frozen=True)
class Need:
    """What a replica asks nodes for."""

    resource: str
    count: int
    """Of the resource, on each node."""
    nodes: int
    selector: Mapping[str, str]


@dataclass
class Nodes:
    """The nodes of the cluster as they were up to a minute ago. Not read again before, also where that is forbidden."""

    api: Api
    _seen: tuple[Object, ...] | None = None
    _is_forbidden: bool = False
    _at: float = -KNOWN_SECONDS
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def advise(self, ray_service: Object, now: float) -> tuple[FieldError, ...]:
        """What they lack for a replica of a rendered RayService, or that nobody may know; nothing where they could not
        be read this time."""
        need = need_of(ray_service)
        nodes = await self.read(now) if need else None
        if need and nodes is None and self._is_forbidden:
            return (UNKNOWN,)
        lacking = advice(need, nodes) if need and nodes is not None else None
        return (lacking,) if lacking else ()

    async def read(self, now: float) -> tuple[Object, ...] | None:
        """None: they may not or cannot be read, and nothing is known of them. Passes that ask at once all wait for one
        answer: a status without the advice that it had would be written twice."""
        async with self._reading:
            if now - self._at >= KNOWN_SECONDS:
                self._at = now
                self._seen = await self._list()
        return self._seen

    async def _list(self) -> tuple[Object, ...] | None:
        was_forbidden, self._is_forbidden = self._is_forbidden, False
        try:
            return tuple(await self.api.list(NODES, keep=_of_use))
        except ApiError as error:
            self._is_forbidden = error.is_forbidden
            is_news = error.is_forbidden and not was_forbidden
            log.log(logging.WARNING if is_news else logging.DEBUG, "no advice on capacity: %s%s", error, error.advice)
            return None


def _of_use(node: Object) -> dict[str, Any]:
    """What advice looks at: a whole node is 55 kB, and thousands of them are more than the operator may have."""
    allocatable = (node.get("status") or {}).get("allocatable") or {}
    return {
        "metadata": {"labels": node["metadata"].get("labels") or {}},
        "status": {"allocatable": {name: value for name, value in allocatable.items() if "/" in name}},
    }


def unread(ray_service: Object) -> tuple[FieldError, ...]:
    """What an operator says that has no right to look at nodes."""
    return (UNKNOWN,) if need_of(ray_service) else ()


def need_of(ray_service: Object) -> Need | None:
    """What the workers of a rendered RayService ask for; None where that is no accelerator."""
    (group,) = ray_service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    pod = group["template"]["spec"]
    limits = (pod["containers"][0].get("resources") or {}).get("limits") or {}  # spec.podTemplate may take them away
    found = next(((name, _whole(count)) for name, count in limits.items() if "/" in name), None)
    return Need(*found, pods_per_replica(ray_service), pod.get("nodeSelector") or {}) if found else None


def advice(need: Need, nodes: Sequence[Object]) -> FieldError | None:
    """What no node offers, or too few do. Affinities are not looked at, so it errs on the side of silence."""
    offers = sorted(_offers(need, nodes), reverse=True)
    fitting = sum(offer >= need.count for offer in offers)
    if fitting >= need.nodes:
        return None
    where = f" with {_words(need.selector)}" if need.selector else ""
    wanted = f"{need.count} {need.resource} on {'one node' if need.nodes == 1 else f'each of {need.nodes} nodes'}"
    has = f"{fitting} nodes have that" if fitting else f"the largest node{where} has {offers[0] if offers else 0}"
    remedy = "add such nodes, unless they come by themselves, or ask for less"
    return FieldError("spec.accelerator", None, f"a replica needs {wanted}, and {has}", remedy)


def _offers(need: Need, nodes: Iterable[Object]) -> Iterable[int]:
    for node in nodes:
        labels = node["metadata"].get("labels") or {}
        if all(labels.get(key) == value for key, value in need.selector.items()):
            yield _whole((node.get("status", {}).get("allocatable") or {}).get(need.resource, 0))


def _whole(quantity: object) -> int:
    """Devices are counted without units; 0 for what is written otherwise, which then gives no advice or none of use."""
    return int(str(quantity)) if str(quantity).isdigit() else 0


def _words(selector: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(selector.items()))
