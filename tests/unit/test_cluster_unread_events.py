"""A pass that cannot read events: what they told earlier passes stays, and nothing is made of what nobody knows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import pytest
from unit.api_objects import endpoint

from sglang_operator.api import parse_endpoint
from sglang_operator.cluster import observe as observing
from sglang_operator.cluster.api import ApiError
from sglang_operator.cluster.events import read_events
from sglang_operator.cluster.in_place import in_place_of, live_ray_service
from sglang_operator.cluster.metadata import Owner, condition_of, stamp
from sglang_operator.cluster.news import news_of
from sglang_operator.cluster.observe import View, observe
from sglang_operator.cluster.probe import Answers, Held
from sglang_operator.cluster.reconcile import Pass
from sglang_operator.cluster.records import read_record
from sglang_operator.cluster.snapshot import Snapshot
from sglang_operator.cluster.types import Key
from sglang_operator.lifecycle import decide, wanted_of
from sglang_operator.lifecycle.observed import Probe
from sglang_operator.render import render_endpoint

Json = dict[str, Any]
START = 1767225600.0
OWNER = Owner(Key("d", "qwen3"), "u")
PARSED = parse_endpoint(endpoint())
RENDERED = render_endpoint(PARSED)
RAY_SERVICE = next(item for item in RENDERED if item["kind"] == "RayService")
NAME = RAY_SERVICE["metadata"]["name"]
LABELS = {"serve.sglang.io/revision": NAME}
NO_SERVICES = "exceeded quota: no more Services"
KILLED = "Ray container terminated status: &ContainerStateTerminated{ExitCode:137,Signal:0,Reason:OOMKilled,}"
DOWN = ApiError(500, "InternalError", "etcdserver: request timed out")
FORBIDDEN = ApiError(403, "Forbidden", 'events is forbidden: User "u" cannot list resource "events" in API group ""')


def event(reason: str, message: str) -> Json:
    return {"type": "Warning", "reason": reason, "message": message, "lastTimestamp": stamp(START)}


BLOCKED = event("FailedToCreateService", NO_SERVICES)
ENDED = event("DeletedWorkerPod", KILLED)


class Server:
    """An API server that has these events, or refuses to tell them, or never answers."""

    def __init__(self, *events: Json, refusal: ApiError | None = None, hangs: bool = False) -> None:
        self.events, self.refusal, self.hangs = events, refusal, hangs

    async def get(self, path: str) -> Json:
        if self.hangs:
            await asyncio.Event().wait()
        if self.refusal:
            raise self.refusal
        asked = unquote(path)
        return {"items": [one for one in self.events if f"reason={one['reason']}" in asked or "type=Warning" in asked]}


class Nobody:
    """No pod answers."""

    async def ask(self, _: Sequence[str], *, generate: bool) -> Answers:
        return Answers(Probe.NOT_ASKED)

    async def ask_head(self, _: str) -> Held | None:
        return None


@dataclass
class Endpoint:
    """Its first revision, of which KubeRay has made nothing but the RayCluster; what passes keep is in status."""

    is_touched: bool = False
    status: Json = field(default_factory=dict)
    generation: int = 1
    pods: tuple[Json, ...] = ()

    def look(self, after: float, server: Server) -> View:
        """A pass, so many seconds after it was made."""
        now, service = START + after, live_ray_service(OWNER, RAY_SERVICE, in_place_of(PARSED, "digest"))
        service["metadata"] |= {"uid": "s", "creationTimestamp": stamp(START)}
        metadata = {"name": f"{NAME}-c", "namespace": "d", "uid": "c", "labels": LABELS}
        cluster: Json = {"metadata": {**metadata, "creationTimestamp": stamp(START)}, "spec": {}}
        made = {"metadata": {"name": NAME, "uid": "r", "resourceVersion": "1"}, "revision": 1}
        live = {"metadata": {"name": "qwen3", "namespace": "d", "generation": self.generation}, "status": self.status}
        snapshot = Snapshot(
            endpoint=live,
            records=(read_record({**made, "data": {"fields": {}, "written": [], "rayService": RAY_SERVICE}}),),
            ray_services=(service,),
            ray_clusters=({**cluster, "status": {"observedGeneration": 1}} if self.is_touched else cluster,),
            pods=self.pods,
        )
        view = asyncio.run(observe(server, Nobody(), snapshot, NAME, now))  # type: ignore[arg-type]
        wanted = wanted_of(PARSED, NAME)
        this = Pass(snapshot, PARSED, wanted, view, decide(wanted, view.observed, now), RENDERED, now)
        self.status = news_of(live, this.status, this.conditions(None), now, partly=False).status
        return view

    def reason(self, kind: str) -> str:
        return str(condition_of({"status": self.status}, kind)["reason"])


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observing, "READ_SECONDS", 0.01)


UNREAD = [pytest.param(Server(refusal=DOWN), id="refused"), pytest.param(Server(hangs=True), id="slow")]


@pytest.mark.parametrize("server", UNREAD)
def test_what_events_told_stays_until_they_can_be_read_again(server: Server) -> None:
    of = Endpoint()
    of.look(100, Server(BLOCKED))
    before = of.status
    assert (of.reason("Progressing"), of.reason("Degraded"), before["reason"]) == ("PodsBlocked",) * 3
    assert NO_SERVICES in condition_of({"status": before}, "Ready")["message"]
    view = of.look(160, server)
    assert not view.observed.kuberay_silent
    assert view.observed.resumed_at == START + 100, "the deadline does not begin anew"
    assert of.status == before
    of.is_touched = True
    of.look(170, Server())
    assert of.reason("Progressing") == "StartingRevision"


@pytest.mark.parametrize("server", UNREAD)
def test_how_pods_ended_stays_known_too(server: Server) -> None:
    of = Endpoint(is_touched=True)
    of.look(100, Server(ENDED))
    before = of.status
    assert (of.reason("Degraded"), before["reason"]) == ("RevisionFailing", "OOMKilled")
    of.look(160, server)
    assert of.status == before


@pytest.mark.parametrize("server", UNREAD)
def test_pods_that_end_again_and_again_are_not_given_the_deadline_anew(server: Server) -> None:
    """Each new one waits a moment for its node."""
    waits = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
    pod: Json = {"metadata": {"name": "w", "labels": {**LABELS, "ray.io/node-type": "worker"}}, "spec": {}}
    pod["metadata"]["creationTimestamp"] = stamp(START + 95)
    pod["status"] = {"phase": "Pending", "conditions": [{**waits, "lastTransitionTime": stamp(START + 95)}]}
    of = Endpoint(is_touched=True, pods=(pod,))
    of.look(100, Server(ENDED, ENDED))
    assert of.status["updating"]["countsFrom"] == stamp(START + 100)
    of.look(110, server)
    assert of.status["updating"]["countsFrom"] == stamp(START + 100)


@pytest.mark.parametrize("server", UNREAD)
def test_kuberay_is_neither_silent_nor_heard_by_what_nobody_knows(server: Server) -> None:
    of = Endpoint()
    of.look(60, Server())
    of.look(100, server)
    assert of.reason("Progressing") == "StartingRevision"
    of.look(110, Server())
    assert of.reason("Progressing") == "KubeRaySilent"
    of.look(120, server)
    assert of.reason("Progressing") == "KubeRaySilent"
    of.is_touched = True
    of.look(130, server)
    assert of.reason("Progressing") == "StartingRevision"


def test_what_was_told_of_another_spec_does_not_stay() -> None:
    of = Endpoint()
    of.look(100, Server(BLOCKED))
    of.generation = 2
    of.look(110, Server(refusal=DOWN))
    assert of.reason("Progressing") == "StartingRevision"


def test_who_may_not_read_them_does_without() -> None:
    """Under the role of an earlier chart nobody will ever know more."""
    of = Endpoint()
    of.look(100, Server(refusal=FORBIDDEN))
    assert of.reason("Progressing") == "KubeRaySilent"
    assert asyncio.run(read_events(Server(refusal=FORBIDDEN), "d", "f")) == ()  # type: ignore[arg-type]
