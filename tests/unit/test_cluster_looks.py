"""What a pass makes of the answers of pods: who is asked for what, what is missing, and what earlier passes saw."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from unit.api_objects import endpoint

from sglang_operator.api import parse_endpoint
from sglang_operator.cluster import observe as observing
from sglang_operator.cluster.ends import Ends
from sglang_operator.cluster.fronts import may_hold_streams
from sglang_operator.cluster.in_place import in_place_of, live_ray_service
from sglang_operator.cluster.logs import Said
from sglang_operator.cluster.metadata import Owner, unix
from sglang_operator.cluster.observe import observe
from sglang_operator.cluster.probe import Answers, Held, Report
from sglang_operator.cluster.records import read_record
from sglang_operator.cluster.snapshot import Snapshot
from sglang_operator.cluster.types import Key
from sglang_operator.lifecycle.observed import Front, Observed, Probe
from sglang_operator.render import render_endpoint

OWNER = Owner(Key("default", "qwen3"), "uid-1")
PARSED = parse_endpoint(endpoint(replicas=2))
RENDERED = next(item for item in render_endpoint(PARSED) if item["kind"] == "RayService")
START = unix("2026-01-01T00:00:00Z")
A, B = "qwen3-a", "qwen3-b"
Json = dict[str, Any]


def at(second: int) -> str:
    return f"2026-01-01T00:{second // 60:02d}:{second % 60:02d}Z"


def worker(revision: str, ip: str, ready: str = "True", since: int = 60, started: int | None = 10) -> Json:
    labels = {"serve.sglang.io/revision": revision, "ray.io/node-type": "worker", "ray.io/serve": "true"}
    state = {"waiting": {}} if started is None else {"running": {"startedAt": at(started)}}
    said = {"type": "Ready", "status": ready, "lastTransitionTime": at(since)}
    status = {"podIP": ip, "phase": "Running", "conditions": [said], "containerStatuses": [{"state": state}]}
    metadata = {"name": ip, "labels": labels, "creationTimestamp": at(0)}
    return {"metadata": metadata, "spec": {"nodeName": "n"}, "status": status}


class Asked:
    """The prober's part: what each address has in flight, if it answers; and who had to generate."""

    def __init__(self, **in_flight: int) -> None:
        self.in_flight = {name.replace("_", "."): count for name, count in in_flight.items()}
        self.generated: set[str] = set()

    async def ask(self, addresses: Sequence[str], *, generate: bool) -> Answers:
        self.generated |= set(addresses) if generate else set()
        told = [(one, self.in_flight[one]) for one in addresses if one in self.in_flight]
        reports = tuple(Report(one, one, "", count, 0.0 if count else 5.0) for one, count in told)
        return Answers(Probe.ANSWERED, reports) if reports else Answers(Probe.WRONG if addresses else Probe.NOT_ASKED)

    async def ask_head(self, _: str) -> Held | None:
        return None


@pytest.fixture(autouse=True)
def _no_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: object) -> Said:
        return Said()

    async def silence(*_: object) -> None:
        return None

    async def no_ends(*_: object) -> Ends:
        return Ends()

    monkeypatch.setattr(observing, "_listen", nothing)
    monkeypatch.setattr(observing, "read_complaint", silence)
    monkeypatch.setattr(observing, "read_ends", no_ends)


def record(name: str, number: int, **notes: str) -> Any:
    annotations = {f"serve.sglang.io/{key.replace('_', '-')}": value for key, value in notes.items()}
    data = {"fields": {}, "written": [], "rayService": RENDERED}
    return read_record({"metadata": {"name": name, "annotations": annotations}, "revision": number, "data": data})


def snapshot(*pods: Json, failed: bool = False, conditions: Sequence[Json] = (), told_of: str = B) -> Snapshot:
    """`b` serves since second 80, and `a` drains."""
    live = live_ray_service(OWNER, RENDERED, in_place_of(PARSED, "digest"))
    services = [{**live, "metadata": {**live["metadata"], "name": name, "uid": name}} for name in (A, B)]
    for one in services:
        one["metadata"] |= {"labels": {"serve.sglang.io/revision": one["metadata"]["name"]}, "creationTimestamp": at(0)}
    failure = {"failure": '{"reason": "EngineFailed", "message": "", "at": 1}'} if failed else {}
    selection = {"serving": B, "previous": A, "switched-at": f"{START + 80:.3f}"}
    notes = {f"serve.sglang.io/{key}": value for key, value in selection.items()}
    cluster = {"metadata": {"name": "c", "labels": {"serve.sglang.io/revision": B}, "creationTimestamp": at(95)}}
    return Snapshot(
        endpoint={
            "metadata": {"name": "qwen3"},
            "spec": {},
            "status": {"conditions": list(conditions), "serving": {"revision": told_of}},
        },
        records=(record(A, 1, draining_since=f"{START + 90:.3f}"), record(B, 2, **failure)),
        ray_services=tuple(services),
        ray_clusters=({**cluster, "spec": {}},),
        pods=pods,
        service={"metadata": {"resourceVersion": "1", "annotations": notes}},
    )


def seen(taken: Snapshot, asked: Asked, now: float = START + 100) -> Observed:
    return asyncio.run(observe(None, asked, taken, B, now)).observed  # type: ignore[arg-type]


SERVES = worker(B, "10.0.1.1")
OLD = (worker(A, "10.0.0.1"), worker(A, "10.0.0.2"))


def test_the_front_of_all_that_answer() -> None:
    both = seen(snapshot(SERVES, *OLD), Asked(**{"10_0_1_1": 0, "10_0_0_1": 0, "10_0_0_2": 0})).get(A)
    assert (both.live.front, both.live.front_pods) == (Front(0, quiet_since=START + 95), 2)


class Moved(Asked):
    """The addresses of the pods that were read are those of new pods by now, of revision `of`."""

    def __init__(self, of: str, **in_flight: int) -> None:
        super().__init__(**in_flight)
        self.of = of

    async def ask(self, addresses: Sequence[str], *, generate: bool) -> Answers:
        found = await super().ask(addresses, generate=generate)
        return replace(found, reports=tuple(replace(one, endpoint="qwen3", revision=self.of) for one in found.reports))


@pytest.mark.parametrize(("of", "ready"), [(B, 1), (A, 0)])
def test_only_replicas_of_a_revision_answer_for_it(of: str, ready: int) -> None:
    live = seen(snapshot(SERVES), Moved(of, **{"10_0_1_1": 0})).get(B).live
    assert live.ready_replicas == ready
    assert live.probe is (Probe.ANSWERED if ready else Probe.WRONG)


@pytest.mark.parametrize(
    "missed",
    [
        worker(A, "10.0.0.2"),  # a time-out
        worker(A, "10.0.0.2", ready="False", since=99),  # one failed check of the kubelet
        {**worker(A, "10.0.0.2"), "metadata": {**OLD[1]["metadata"], "deletionTimestamp": at(99)}},  # on its way out
    ],
)
def test_one_replica_that_was_not_heard_makes_the_front_unknown(missed: Json) -> None:
    live = seen(snapshot(SERVES, OLD[0], missed), Asked(**{"10_0_1_1": 0, "10_0_0_1": 0})).get(A).live
    assert (live.front, live.front_pods) == (None, 2)


def test_pods_that_have_had_no_stream_are_not_waited_for() -> None:
    loading = worker(A, "10.0.0.2", ready="False", since=5)
    live = seen(snapshot(SERVES, OLD[0], loading), Asked(**{"10_0_1_1": 0, "10_0_0_1": 0})).get(A).live
    assert (live.front, live.front_pods) == (Front(0, quiet_since=START + 95), 1)


@pytest.mark.parametrize(
    ("pod", "may"),
    [
        (worker(A, "1"), True),
        (worker(A, "1", ready="False", since=99), True),
        (worker(A, "1", ready="False", since=5), False),  # never Ready since it started
        (worker(A, "1", ready="False", since=99, started=99), False),  # its container started anew
        (worker(A, "1", ready="False", since=99, started=None), False),  # or does not run
        ({"metadata": {}, "status": {}}, False),
    ],
)
def test_which_pods_may_hold_streams(pod: Json, may: bool) -> None:
    assert may_hold_streams(pod) is may


def test_since_when_none_of_them_is_ready() -> None:
    down = (worker(A, "10.0.0.1", ready="False", since=70), worker(A, "10.0.0.2", ready="False", since=75))
    assert seen(snapshot(SERVES, *down), Asked()).get(A).live.unready_since == START + 75
    assert seen(snapshot(SERVES, OLD[0], down[1]), Asked()).get(A).live.unready_since is None


def test_a_pod_that_a_lost_node_never_ends_is_waited_for_no_more() -> None:
    def left(pod: Json, ends: int) -> Json:
        return {**pod, "metadata": {**pod["metadata"], "deletionTimestamp": at(ends)}}

    ending = seen(snapshot(SERVES, left(OLD[0], 45)), Asked()).get(A).live
    stuck = seen(snapshot(SERVES, left(OLD[0], 35)), Asked()).get(A).live  # 65 s after its grace period
    assert (ending.pods, ending.worker_pods, ending.front_pods) == (1, 1, 1)
    assert (stuck.pods, stuck.worker_pods, stuck.front_pods, stuck.placed) == (0, 0, 0, 0)


@pytest.mark.parametrize("ends", [145, 35])
def test_nor_does_it_make_kuberay_look_silent(ends: int) -> None:
    """A RayService that was deleted in the foreground waits for it, and that is not KubeRay's matter."""
    taken = snapshot(SERVES, {**OLD[0], "metadata": {**OLD[0]["metadata"], "deletionTimestamp": at(ends)}})
    deleted, serving = taken.ray_services
    deleted = {**deleted, "metadata": {**deleted["metadata"], "deletionTimestamp": at(20)}}
    touched = {**taken.ray_clusters[0], "status": {"state": "ready"}}
    taken = replace(taken, ray_services=(deleted, serving), ray_clusters=(touched,))
    assert not seen(taken, Asked(**{"10_0_1_1": 0}), START + 200).kuberay_silent


def test_a_draining_revision_is_only_looked_at_while_another_one_answers() -> None:
    asked = Asked(**{"10_0_1_1": 0, "10_0_0_1": 0, "10_0_0_2": 0})
    old = seen(snapshot(SERVES, *OLD), asked).get(A)
    assert asked.generated == set()
    assert (old.live.ready_replicas, old.live.answered) == (2, 0)


@pytest.mark.parametrize("failed", [True, False])
def test_it_has_to_generate_before_traffic_may_go_back_to_it(failed: bool) -> None:
    asked = Asked(**{"10_0_0_1": 0, "10_0_0_2": 0, **({"10_0_1_1": 0} if failed else {})})
    old = seen(snapshot(SERVES, *OLD, failed=failed), asked).get(A)
    assert asked.generated == {"10.0.0.1", "10.0.0.2"}
    assert old.live.answered == 2


def said(kind: str, status: str, since: int) -> Json:
    return {"type": kind, "status": status, "lastTransitionTime": at(since)}


def test_status_remembers_since_when_nothing_answers() -> None:
    def since(*conditions: Json, told_of: str = B) -> float | None:
        return seen(snapshot(SERVES, conditions=conditions, told_of=told_of), Asked()).unanswered_since

    assert since() is None
    assert since(said("Ready", "True", 85)) is None
    assert since(said("Ready", "False", 85)) == START + 85
    assert since(said("Ready", "False", 70)) == START + 80, "that was the revision before the switch"
    assert since(said("Ready", "False", 70), told_of=A) is None, "nobody has looked at this one yet"


def test_status_remembers_when_a_rollout_went_on() -> None:
    def resumed(*conditions: Json) -> float:
        return seen(snapshot(SERVES, conditions=conditions), Asked()).resumed_at

    done = said("Progressing", "False", 30)
    assert resumed({**done, "reason": "RolloutComplete"}) == START + 100, "nothing was on its way until now"
    assert resumed({**done, "reason": "RolledBack"}) == START + 100
    assert resumed({**done, "reason": "RefusedByCluster"}) == START + 30, "that stops nothing"
    assert resumed() == 0
    assert resumed(said("Progressing", "Unknown", 30)) == START + 100
    assert resumed(said("Progressing", "True", 85)) == START + 85


def test_a_cluster_that_kuberay_makes_is_progress() -> None:
    assert seen(snapshot(), Asked()).get(B).live.progress == START + 95
    assert seen(snapshot(), Asked()).get(A).live.progress == START
    taken = snapshot()
    admitted = {**taken.ray_clusters[0], "status": {"conditions": [said("RayClusterSuspended", "False", 98)]}}
    assert seen(replace(taken, ray_clusters=(admitted,)), Asked()).get(B).live.progress == START + 98
