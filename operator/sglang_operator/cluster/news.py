"""Status as a pass has found it: written if it differs from what is there, with an Event for each transition."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sglang_operator.cluster.api import Api, ApiError
from sglang_operator.cluster.cause import explained
from sglang_operator.cluster.events import event_of, transitions
from sglang_operator.cluster.metadata import Owner
from sglang_operator.cluster.older_crd import Room
from sglang_operator.cluster.paths import EVENT
from sglang_operator.cluster.status import conditions, status_patch
from sglang_operator.cluster.types import Key
from sglang_operator.lifecycle.reasons import Condition

log = logging.getLogger(__name__)
Object = dict[str, Any]


@dataclass(frozen=True)
class News:
    """Of an endpoint as it was read, and of a time: the whole status, and the conditions of now and of before."""

    live: Object
    now: float
    status: Object
    made: Sequence[Object]
    known: Sequence[Object]


def news_of(live: Object, said: Mapping[str, Any], found: Sequence[Condition], now: float, *, partly: bool) -> News:
    """`said`: all of status but conditions, or with `partly` what changes of it, while the rest stays as it is."""
    before = live.get("status") or {}
    known = before.get("conditions") or []
    reason, told = explained(found, known)
    generation = live["metadata"]["generation"]
    made = conditions(now, generation, told, known)
    kept = [one for one in known if one["type"] not in {new["type"] for new in made}] if partly else []
    rest = {**before, **said} if partly else said
    status = {**rest, "reason": reason, "observedGeneration": generation, "conditions": [*made, *kept]}
    return News(live, now, status, made, known)


async def write_news(api: Api, room: Room, news: News) -> None:
    """Nothing where status says it already. Raises ApiError if status cannot be written; an Event is worth no pass."""
    if room.holds(news.live.get("status") or {}, news.status):
        return
    metadata = news.live["metadata"]
    owner = Owner(Key(metadata["namespace"], metadata["name"]), metadata["uid"])
    await room.apply(api, owner.key, status_patch(news.live, news.status))
    try:
        for one in transitions(news.known, news.made):
            await api.create(EVENT.of(owner.key.namespace), event_of(owner, one, news.now))
    except ApiError as error:  # what refuses one refuses the rest, and a pass that has written status finds nothing new
        log.warning("%s: no Event tells of its new conditions: %s%s", owner.key, error, error.advice)
