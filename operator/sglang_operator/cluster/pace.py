"""When a pass is to look again although no event may tell of a change. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sglang_operator.api import Endpoint
from sglang_operator.cluster import pods as of_pods
from sglang_operator.cluster.adapters import adapter_rows
from sglang_operator.cluster.observe import Sight, View
from sglang_operator.lifecycle.observed import Probe, Revision
from sglang_operator.lifecycle.wanted import Wanted

PROBE_SECONDS: Final = 2.0  # while replicas are to prove themselves, or requests to end
WAIT_SECONDS: Final = 5.0  # while pods are to come, to start or to go: after ten it is known that they do not
LOG_SECONDS: Final = 10.0  # while a model loads
ROOM_SECONDS: Final = 60.0  # while workers wait for nodes, which may be for days; the watch tells of one that gets it
PATIENT_SECONDS: Final = 30.0  # a probe may hold its worker for as long: others must have their turn
PATIENCE: Final = 0.1  # of the time that nothing has changed: probing a minute later is early enough after ten
SHORTEST: Final = 0.05


@dataclass(frozen=True)
class Seen:
    """What one pass knows."""

    endpoint: Endpoint
    wanted: Wanted
    view: View
    now: float

    @property
    def sights(self) -> Mapping[str, Sight]:
        """Of every revision, by name."""
        return self.view.sights

    @property
    def selected(self) -> str:
        """The revision that the Service selects."""
        return self.view.observed.service.revision


def look_again(seen: Seen) -> float | None:
    """Seconds until something may have changed of which no event tells; None: events will do."""
    return soonest(*(_interval(seen, name) for name in seen.sights))


def soonest(*seconds: float | None) -> float | None:
    """The least of those that there are."""
    return min((max(one, SHORTEST) for one in seconds if one is not None), default=None)


def _interval(seen: Seen, name: str) -> float | None:
    revision = seen.sights[name].revision
    if revision.live.probe is Probe.NOT_ASKED:
        return _while_it_comes(seen, seen.sights[name]) if _is_waited_for(seen, revision) else None
    if revision.live.probe is Probe.ANSWERED and name == seen.selected:
        return _while_it_serves(seen, seen.sights[name])
    if revision.live.probe is Probe.ANSWERED and revision.draining_since is not None:
        return PROBE_SECONDS
    return _patient(seen, revision, PROBE_SECONDS, PATIENT_SECONDS)


def _while_it_comes(seen: Seen, sight: Sight) -> float:
    workers = [pod for pod in sight.pods if of_pods.is_worker(pod)]
    waits = workers and not any(pod.get("spec", {}).get("nodeName") for pod in workers)
    return _patient(seen, sight.revision, WAIT_SECONDS, ROOM_SECONDS if waits else LOG_SECONDS)


def _while_it_serves(seen: Seen, sight: Sight) -> float | None:
    live = sight.revision.live
    rows = adapter_rows(seen.endpoint, sight.answers.reports) or ()
    if any(row["state"] == "Loading" for row in rows):
        return PROBE_SECONDS
    # A pod is Ready before its replica is, a replica tries a failed adapter again, and then nothing tells of it.
    missing = live.ready_replicas < max(live.target_replicas or 0, seen.wanted.replicas.least)
    return LOG_SECONDS if missing or any(row["state"] == "Failed" for row in rows) else None


def _is_waited_for(seen: Seen, revision: Revision) -> bool:
    """Pods of it shall come, or the last of it shall go: nobody tells that KubeRay or a quota lets them not."""
    live = revision.live
    if not revision.present:
        return not revision.gone
    if revision.name not in (seen.wanted.revision, seen.selected) or live.released:
        return False
    return live.worker_pods > 0 or live.clusters == 0 or live.target_replicas != 0


def _patient(seen: Seen, revision: Revision, shortest: float, longest: float) -> float:
    """Often at first, then ever more rarely."""
    progress = revision.live.progress
    still = 0.0 if progress is None else seen.now - progress
    return min(max(shortest, PATIENCE * still), longest)
