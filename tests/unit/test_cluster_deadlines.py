"""What no deadline counts, over several passes: the end of a wait is remembered in status, and there alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from unit.api_objects import endpoint

from sglang_operator.api import parse_endpoint
from sglang_operator.cluster import observe as observing
from sglang_operator.cluster.ends import Ends
from sglang_operator.cluster.in_place import in_place_of, live_ray_service
from sglang_operator.cluster.logs import Said
from sglang_operator.cluster.metadata import Owner, stamp
from sglang_operator.cluster.observe import observe
from sglang_operator.cluster.probe import Answers, Held, Report
from sglang_operator.cluster.records import read_record
from sglang_operator.cluster.snapshot import Snapshot
from sglang_operator.cluster.status import Facts, conditions, status_of
from sglang_operator.cluster.types import Key
from sglang_operator.lifecycle import decide, wanted_of
from sglang_operator.lifecycle.observed import Probe
from sglang_operator.lifecycle.plan import Plan, RememberFailure
from sglang_operator.lifecycle.reasons import ConditionType, Reason
from sglang_operator.render import render_endpoint

Json = dict[str, Any]
OWNER = Owner(Key("default", "qwen3"), "uid-1")
DAY = 86_400.0
DEADLINE = 900.0  # spec.upgrade.progressDeadlineSeconds, and so is capacityTimeoutSeconds
START = 1767225600.0  # b was made then
OLD, NEW = (parse_endpoint(endpoint(engine={"image": image})) for image in ("one", "two"))
NO_NODE = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
NO_VOLUME = "0/1 nodes are available: 1 node(s) had volume node affinity conflict."


def made(of: Any, at: float, number: int) -> tuple[Json, Any]:
    """A RayService and its record."""
    rendered = next(item for item in render_endpoint(of) if item["kind"] == "RayService")
    live = live_ray_service(OWNER, rendered, in_place_of(of, wanted_of(of).settings))
    live["metadata"] |= {"uid": f"uid-{number}", "creationTimestamp": stamp(at)}
    metadata = {"name": rendered["metadata"]["name"], "uid": "u", "resourceVersion": "1"}
    data = {"fields": {}, "written": [], "rayService": rendered}
    return live, read_record({"metadata": metadata, "revision": number, "data": data})


A, B = made(OLD, START - DAY, 1), made(NEW, START, 2)
SERVING, COMING = A[1].name, B[1].name


def said(kind: str, status: str, at: float, reason: str = "", message: str = "") -> Json:
    return {"type": kind, "status": status, "lastTransitionTime": stamp(at), "reason": reason, "message": message}


def pod(of: str, kind: str, ip: str, at: float, *told: Json, node: str = "n") -> Json:
    labels = {"serve.sglang.io/revision": of, "ray.io/node-type": kind, "ray.io/serve": str(kind == "worker").lower()}
    status = {"podIP": ip, "phase": "Running" if node else "Pending", "conditions": list(told)}
    metadata = {"name": f"{of}-{kind}", "labels": labels, "creationTimestamp": stamp(at)}
    return {"metadata": metadata, "spec": {"nodeName": node} if node else {}, "status": status}


def cluster(of: str, at: float, told: Sequence[Json] = (), **spec: Any) -> Json:
    metadata = {"name": f"{of}-c", "labels": {"serve.sglang.io/revision": of}, "creationTimestamp": stamp(at)}
    group = {"groupName": "worker", "replicas": 1}
    return {"metadata": metadata, "status": {"conditions": list(told)}, "spec": {"workerGroupSpecs": [group], **spec}}


def running(of: str, kind: str, ip: str, at: float) -> Json:
    return pod(of, kind, ip, at, said("PodScheduled", "True", at), said("Ready", "True", at + 40))


def waiting(message: str = NO_NODE, reason: str = "Unschedulable", at: float = START + 30) -> Json:
    return pod(COMING, "worker", "", at, said("PodScheduled", "False", at, reason, message), node="")


HEAD = running(COMING, "head", "10.0.0.3", START)
READY = running(COMING, "worker", "10.0.0.4", START + 30)
PENDING = waiting()


class Asked:
    """A answers, and b does not: nobody gets through to it, or it says that it has no replica."""

    def __init__(self, probe: Probe = Probe.NOT_ASKED) -> None:
        self.probe = probe

    async def ask(self, addresses: Sequence[str], *, generate: bool) -> Answers:
        if "10.0.0.2" in addresses:
            return Answers(Probe.ANSWERED, (Report("r", "10.0.0.2", "", 0, 5.0),))
        return Answers(self.probe if addresses else Probe.NOT_ASKED)

    async def ask_head(self, _: str) -> Held | None:
        return None


@dataclass
class Rollout:
    """A serves, and b shall; what passes keep is in status."""

    status: Json = field(default_factory=dict)

    def look(
        self, after: float, *workers: Json, asked: Asked | None = None, made_by_kuberay: Json | None = None
    ) -> Plan:
        """A pass, so many seconds after b was made."""
        now = START + after
        coming = made_by_kuberay or cluster(COMING, START)
        head = () if coming["spec"].get("suspend") else (HEAD,)
        serving = (
            running(SERVING, kind, ip, START - DAY) for kind, ip in (("head", "10.0.0.1"), ("worker", "10.0.0.2"))
        )
        snapshot = Snapshot(
            endpoint={"metadata": {"name": "qwen3"}, "spec": {}, "status": self.status},
            records=(A[1], B[1]),
            ray_services=(A[0], B[0]),
            ray_clusters=(cluster(SERVING, START - DAY), coming),
            pods=(*serving, *head, *workers),
            service={"metadata": {"resourceVersion": "1", "annotations": {"serve.sglang.io/serving": SERVING}}},
        )
        view = asyncio.run(observe(None, asked or Asked(), snapshot, COMING, now))  # type: ignore[arg-type]
        plan = decide(wanted_of(NEW, COMING), view.observed, now)
        told = conditions(now, 1, plan.conditions, self.status.get("conditions", ()))
        facts = Facts(NEW, view, snapshot.records, COMING, self.status, now)
        self.status = {**status_of(facts), "conditions": told}
        return plan

    def waited(
        self, *workers: Json, until: float = 3600, asked: Asked | None = None, made_by_kuberay: Json | None = None
    ) -> Rollout:
        """It has for an hour, and the deadline has long been over; nothing new is written of it."""
        self.look(until - 3540, *workers, asked=asked, made_by_kuberay=made_by_kuberay)
        self.look(until - 600, *workers, asked=asked, made_by_kuberay=made_by_kuberay)
        before = self.status
        assert self.look(until, *workers, asked=asked, made_by_kuberay=made_by_kuberay).actions == ()
        assert self.status == before
        return self


def failed(plan: Plan) -> bool:
    return any(isinstance(action, RememberFailure) for action in plan.actions)


def degraded(plan: Plan) -> Reason:
    return next(one.reason for one in plan.conditions if one.type is ConditionType.DEGRADED)


@pytest.fixture(autouse=True)
def _nothing_else_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: object) -> Said:
        return Said()

    async def silence(*_: object) -> str:
        return ""

    async def no_ends(*_: object) -> Ends:
        return Ends()

    monkeypatch.setattr(observing, "_listen", nothing)
    monkeypatch.setattr(observing, "read_complaint", silence)
    monkeypatch.setattr(observing, "read_ends", no_ends)


@pytest.mark.parametrize(
    "workers",
    [
        pytest.param([{**PENDING, "metadata": {**PENDING["metadata"], "deletionTimestamp": stamp(START)}}], id="ends"),
        pytest.param([], id="gone"),
        pytest.param([waiting("binding volumes: timed out", "SchedulerError")], id="scheduler's error"),
        pytest.param([waiting(NO_VOLUME)], id="a volume is missing as well"),
    ],
)
def test_a_wait_for_a_node_that_is_interrupted_has_not_failed(workers: list[Json]) -> None:
    """Ray's autoscaler of an earlier record makes a pod that has waited for an hour anew."""
    rollout = Rollout().waited(PENDING)
    plan = rollout.look(3700, *workers)
    assert (failed(plan), degraded(plan)) == (False, Reason.AS_EXPECTED)
    assert plan.wait
    assert plan.wait.at == START + 3700 + DEADLINE
    before = rollout.status
    assert not failed(rollout.look(3700 + DEADLINE - 1, *workers))
    assert rollout.status == before, "nothing has changed"
    assert failed(rollout.look(3700 + DEADLINE, *workers)), "the deadline begins anew, and once"


def test_each_wait_stops_the_deadline_for_its_own_time() -> None:
    rollout = Rollout().waited(PENDING)
    rollout.look(3700)
    rollout.waited(waiting(at=START + 3705), until=7500)
    assert "countsFrom" not in rollout.status["updating"]
    assert not failed(rollout.look(8000))
    assert rollout.status["updating"]["countsFrom"] == stamp(START + 8000)
    assert not failed(rollout.look(8000 + DEADLINE - 1))
    assert failed(rollout.look(8000 + DEADLINE))


def test_pods_that_can_be_reached_again_have_the_whole_deadline() -> None:
    rollout = Rollout().waited(READY, asked=Asked(Probe.UNREACHABLE))
    assert not failed(rollout.look(3700, READY, asked=Asked(Probe.WRONG)))
    assert failed(rollout.look(3700 + DEADLINE, READY, asked=Asked(Probe.WRONG)))


def test_what_an_earlier_operator_has_told_is_no_reason_to_fail() -> None:
    """It knew no countsFrom."""
    rollout = Rollout().waited(PENDING)
    rollout.status["updating"].pop("countsFrom", None)
    assert not failed(rollout.look(3700))


def test_where_nothing_is_waited_for_the_deadline_is_that_of_the_progress() -> None:
    rollout = Rollout()
    rollout.look(1)
    assert not failed(rollout.look(40 + DEADLINE - 1)), "its head became ready then"
    assert failed(rollout.look(40 + DEADLINE))


@pytest.mark.parametrize("is_old", [True, False], ids=["KubeRay has not come to it", "KubeRay has"])
def test_what_kueue_has_just_admitted_has_not_failed(*, is_old: bool) -> None:
    suspended = cluster(COMING, START, [said("RayClusterSuspended", "True", START + 5)], suspend=True)
    rollout = Rollout().waited(made_by_kuberay=suspended)
    told = (
        said("RayClusterSuspended", "True", START + 5) if is_old else said("RayClusterSuspended", "False", START + 3690)
    )
    admitted = cluster(COMING, START, [told], suspend=False)
    plan = rollout.look(3700, made_by_kuberay=admitted)
    assert (failed(plan), degraded(plan)) == (False, Reason.NO_CAPACITY if is_old else Reason.AS_EXPECTED)
