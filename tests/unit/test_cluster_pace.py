"""When a pass looks again by itself: soon while something is waited for, rarely at what does not change."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from unit.api_objects import endpoint
from unit.web_apps import listening

from sglang_operator.api import parse_endpoint
from sglang_operator.cluster import probe as probing
from sglang_operator.cluster.complaints import STUCK_SECONDS
from sglang_operator.cluster.logs import ENGINE_DEATHS
from sglang_operator.cluster.observe import Sight, View
from sglang_operator.cluster.pace import (
    LOG_SECONDS,
    PATIENT_SECONDS,
    PROBE_SECONDS,
    ROOM_SECONDS,
    WAIT_SECONDS,
    Seen,
    look_again,
)
from sglang_operator.cluster.pods import CRASHES
from sglang_operator.cluster.probe import Prober
from sglang_operator.cluster.silence import SILENT_SECONDS
from sglang_operator.lifecycle.observed import Live, Observed, Presence, Probe, Record, Revision, Selection
from sglang_operator.lifecycle.wanted import Wanted
from sglang_serve.objects import Patience

NOW = 10_000.0
THERE = Live(presence=Presence.PRESENT, clusters=1, target_replicas=1, progress=NOW)


def again(
    live: Live, *, selected: str = "", draining: bool = False, name: str = "b", pods: tuple[dict[str, Any], ...] = ()
) -> float | None:
    """Of an endpoint that wants revision b."""
    record = Record(1, draining_since=NOW if draining else None)
    sights = {name: Sight(Revision(name, record, live), pods)}
    view = View(Observed(service=Selection(selected)), sights)
    return look_again(Seen(parse_endpoint(endpoint()), Wanted("b"), view, NOW))


def unchanged(seconds: float, probe: Probe) -> Live:
    return replace(THERE, worker_pods=1, probe=probe, answered=1, ready_replicas=1, progress=NOW - seconds)


@pytest.mark.parametrize("probe", [Probe.UNREACHABLE, Probe.WRONG, Probe.ANSWERED])
def test_pods_that_prove_nothing_are_asked_ever_more_rarely(probe: Probe) -> None:
    """A policy that closes all of a cluster would keep every worker busy with time-outs."""
    waits = [again(unchanged(seconds, probe)) for seconds in (0, 20, 100, 300, 1e6)]
    assert waits == [PROBE_SECONDS, PROBE_SECONDS, 10, PATIENT_SECONDS, PATIENT_SECONDS]


def test_a_serving_revision_that_cannot_be_reached_is_asked_rarely_too() -> None:
    assert again(unchanged(300, Probe.UNREACHABLE), selected="b") == PATIENT_SECONDS


def test_the_end_of_a_drain_is_not_missed() -> None:
    drains = unchanged(300, Probe.ANSWERED)
    assert again(drains, selected="b", draining=True, name="a") == PROBE_SECONDS


def test_a_revision_that_serves_needs_no_look() -> None:
    assert again(unchanged(300, Probe.ANSWERED), selected="b") is None


@pytest.mark.parametrize(
    "live",
    [
        THERE,  # its pods are refused by a quota
        replace(THERE, worker_pods=1),
        replace(THERE, clusters=0, target_replicas=0),  # KubeRay is silent
        replace(THERE, target_replicas=None),
    ],
)
@pytest.mark.parametrize("selected", ["", "b"])
def test_pods_that_shall_come_are_waited_for(live: Live, selected: str) -> None:
    assert again(live, selected=selected) == WAIT_SECONDS


def test_pods_that_do_not_come_are_found_within_a_quarter_of_a_minute() -> None:
    assert STUCK_SECONDS + WAIT_SECONDS <= 15
    waits = [again(replace(THERE, progress=NOW - seconds)) for seconds in (0, 50, 80, 1e6)]
    assert waits == [WAIT_SECONDS, WAIT_SECONDS, 8, LOG_SECONDS]


def test_the_page_says_what_takes_longer(request: pytest.FixtureRequest) -> None:
    docs = request.config.rootpath / "docs"
    page = (docs / "reference/conditions.md").read_text().partition("## How soon\n")[2]
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    silent, hub, storage, again = rows
    patience = Patience()
    assert "at most 15 s after its cause" in page
    assert f"| {SILENT_SECONDS:.0f} s |" in silent
    assert "| 10 s for a listing, about a minute for a file |" in hub
    for name in ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"):  # defaults of the hub's client
        assert re.search(rf"`{name}` \(10 s\)", (docs / "operations/serving.md").read_text()), name
    assert f"| {patience.retry_seconds:.0f} s at most |" in storage
    assert f"more than {patience.piece_seconds:.0f} s is asked for {patience.retries} times more" in storage
    assert f"| {CRASHES} ends of a container, {ENGINE_DEATHS} ends of an engine |" in again


def test_workers_that_wait_for_nodes_are_looked_at_rarely_and_a_model_that_loads_is_not() -> None:
    waits = {"metadata": {"labels": {"ray.io/node-type": "worker"}}, "spec": {}}
    loads = {**waits, "spec": {"nodeName": "n"}}
    there = replace(THERE, worker_pods=2, progress=NOW - 1e6)
    assert again(there, pods=(waits, waits)) == ROOM_SECONDS
    assert again(there, pods=(waits, loads)) == LOG_SECONDS


@pytest.mark.parametrize(
    "live", [Live(presence=Presence.TERMINATING), Live(clusters=1), Live(pods=1)], ids=["service", "cluster", "pod"]
)
def test_what_shall_go_is_waited_for(live: Live) -> None:
    assert again(live, name="a") == WAIT_SECONDS


@pytest.mark.parametrize(
    ("live", "name"),
    [
        (replace(THERE, target_replicas=0), "b"),  # stopped, or asleep
        (replace(THERE, released=True), "b"),  # failed, and kept for reading
        (THERE, "a"),  # its turn to go comes with a timer of its own
        (Live(), "b"),
    ],
)
def test_where_nothing_is_waited_for_events_will_do(live: Live, name: str) -> None:
    assert again(live, name=name) is None


@pytest.mark.parametrize(("limit", "asked"), [(60.0, 1 + probing.ROUNDS), (-1.0, 1)])
def test_a_front_is_not_asked_for_longer_than_its_turn(
    monkeypatch: pytest.MonkeyPatch, limit: float, asked: int
) -> None:
    """Where each answer takes its 25 s, asking again and again would take longer than a pass may."""
    monkeypatch.setattr(probing, "ROUNDS_SECONDS", limit)
    times: list[int] = []

    async def answer(_request: web.Request) -> web.Response:
        times.append(1)
        said = {"replica": "r", "node_ip": "127.0.0.1", "config_id": "", "in_flight": 0}
        return web.json_response(said)

    async def main() -> None:
        app = web.Application()
        app.router.add_get("/-/replica", answer)
        async with listening(app) as port:
            prober = Prober(port)
            found = await prober.ask(["127.0.0.1", "127.0.0.1"], generate=True)
            assert len(found.reports) == 1
            await prober.close()

    asyncio.run(main())
    assert len(times) == 2 * asked
