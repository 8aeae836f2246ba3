"""How an endpoint is whose spec is not understood: what serves is told from its record, and nothing is planned."""

from __future__ import annotations

from typing import Any, Final

from sglang_operator.api.spec_scaling import HOLD_SECONDS
from sglang_operator.cluster import earlier
from sglang_operator.cluster.api import Api
from sglang_operator.cluster.in_place import written_values
from sglang_operator.cluster.observe import observe
from sglang_operator.cluster.probe import Prober
from sglang_operator.cluster.snapshot import Snapshot, take_snapshot
from sglang_operator.cluster.types import Key
from sglang_operator.lifecycle import decide
from sglang_operator.lifecycle.reasons import Condition, ConditionType
from sglang_operator.lifecycle.wanted import Bounds, Wanted

Object = dict[str, Any]
TOLD: Final = (ConditionType.READY, ConditionType.DEGRADED)  # Progressing is of a spec


async def as_it_is(
    api: Api, prober: Prober, key: Key, endpoint: Object, now: float
) -> tuple[Object, tuple[Condition, ...]]:
    """Numbers of status, and conditions; none of an endpoint without a record. Raises NewerRecordError and ApiError."""
    snapshot = await take_snapshot(api, key, endpoint)
    wanted = newest_wanted(snapshot)
    if wanted is None:
        return {}, ()
    view = await observe(api, prober, snapshot, wanted.revision, now, paused=True)
    plan = decide(wanted, view.observed, now)
    serving = view.sights.get(view.observed.service.revision)
    ready = serving.revision.live.ready_replicas if serving else 0
    found = earlier.told(snapshot, plan.conditions, unread=view.is_unread(wanted.revision))
    return {"readyReplicas": ready}, tuple(one for one in found if one.type in TOLD)


def newest_wanted(snapshot: Snapshot) -> Wanted | None:
    """What was wanted last: the newest record, with the bounds that its RayService was last given."""
    newest = snapshot.newest
    if newest is None:
        return None
    live = snapshot.ray_service(newest.name)
    values = written_values(live) if live else None
    scaling = values.parsed_scaling if values else None
    bounds = Bounds(*values.within(None).bounds) if values else Bounds()
    settings = values.settings if values else ""
    return Wanted(newest.name, settings, bounds, hold=scaling.hold_seconds if scaling else HOLD_SECONDS)
