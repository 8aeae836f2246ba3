"""Which kinds this cluster has. Every authenticated client may ask that."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from sglang_operator.cluster.api import Api, ApiError
from sglang_operator.cluster.paths import ENDPOINT, KINDS, Kind

log: Final = logging.getLogger(__name__)

AGAIN_SECONDS: Final = 5.0
KINDS_SECONDS: Final = 30.0
OPTIONAL: Final = tuple(kind for kind in KINDS.values() if kind.is_optional)


async def wait_for_endpoints(api: Api, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
    """Wait until the API server answers and knows SGLangEndpoints."""
    while (problem := await _problem(api)) is not None:
        log.warning("waiting: %s", problem)
        await sleep(AGAIN_SECONDS)


async def wait_for_late_kinds(api: Api, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
    """Wait until the cluster has an optional kind that it did not have before. What it had before nobody knows if the
    first look fails: whoever began to watch then may have seen none, so that each counts as come."""
    missing: set[str] | None = None
    while True:
        try:
            now = {kind.name for kind in OPTIONAL if not await _is_served(api, kind)}
        except ApiError as error:
            log.debug("which kinds are there cannot be asked: %s", error)
            missing = {kind.name for kind in OPTIONAL} if missing is None else missing
        else:
            if come := (missing or set()) - now:
                log.info("in the cluster now: %s", ", ".join(sorted(come)))
                return
            missing = now
        await sleep(KINDS_SECONDS)


@dataclass
class Absences:
    """Kinds that the log has told to be missing: once, however many endpoints and passes find so, until they come."""

    _told: set[str] = field(default_factory=set)

    def tell(self, absent: frozenset[str], remedies: Mapping[str, str]) -> None:
        """`remedies`: what to do about kinds that the endpoint needs, by their names."""
        self._told -= remedies.keys() - absent
        for kind in sorted((absent & remedies.keys()) - self._told):
            self._told.add(kind)
            log.warning("%s", remedies[kind])


async def _problem(api: Api) -> str | None:
    try:
        is_there = await _is_served(api, ENDPOINT)
    except ApiError as error:
        return str(error)
    return None if is_there else f"this cluster has no {ENDPOINT.plural}: install the CRD, kubectl apply -f crds/"


async def _is_served(api: Api, kind: Kind) -> bool:
    found = await api.find(f"/apis/{kind.group}/{kind.version}")
    return any(one["name"] == kind.plural for one in (found or {}).get("resources") or ())
