"""Reasons of conditions that no other test of this tier or of the cluster's comes upon, each provoked once.

tests/unit/test_lifecycle_decide.py holds them together: a reason that no such test names fails there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest
from apiserver.kubelet import NO_IMAGE
from apiserver.passes import until
from apiserver.rollouts import Object, Stage, stage

from sglang_operator.cluster.capacity import Nodes
from sglang_operator.cluster.metadata import name_of, stamp
from sglang_operator.cluster.paths import ENDPOINT, POD
from sglang_operator.cluster.pods import is_worker
from sglang_operator.cluster.probe import Answers
from sglang_operator.cluster.silence import SILENT_SECONDS
from sglang_operator.cluster.types import Key
from sglang_operator.lifecycle.observed import Probe
from sglang_operator.lifecycle.scene import LOST_SECONDS
from sglang_operator.render import Platform, names

if TYPE_CHECKING:
    from localcluster import ControlPlane

EDIT: Final[Object] = {"engine": {"args": {"mem_fraction_static": 0.5}}}
TRIAL_SECONDS: Final = 120
DEADLINE_SECONDS: Final = 600
Body = Callable[[Stage, Key], Awaitable[None]]
Run = Callable[..., None]


@pytest.fixture
def run(control_plane: ControlPlane) -> Run:
    """Runs a body over an endpoint with this spec, of which nothing is there yet."""

    async def main(body: Body, spec: Object) -> None:
        async with stage(control_plane.kubeconfig) as on:
            await body(on, await on.on.create(**spec))

    return lambda body, **spec: asyncio.run(main(body, spec))


async def said(on: Stage, key: Key, condition: str, reason: str) -> Object:
    """Pass after pass until a condition has this reason."""

    async def holds() -> bool:
        status = (await on.api.get(ENDPOINT.of(*key))).get("status", {})
        return any(one["type"] == condition and one["reason"] == reason for one in status.get("conditions", ()))

    await on.until(holds, key)
    return await on.on.condition(key, condition)


async def upset(on: Stage, revision: str) -> None:
    """The workers of a revision are not ready any more."""
    for pod in await on.api.list(POD.of(on.on.namespace)):
        if is_worker(pod) and pod["metadata"]["labels"][names.REVISION] == revision:
            unready = [{"type": "Ready", "status": "False", "lastTransitionTime": stamp(on.clock())}]
            await on.api.patch(POD.of(on.on.namespace, name_of(pod), "status"), {"status": {"conditions": unready}})


def test_no_replica_is_wanted(run: Run) -> None:
    async def body(on: Stage, key: Key) -> None:
        assert "spec.replicas" in (await said(on, key, "Ready", "Stopped"))["message"]

    run(body, replicas=0)


def test_the_serving_revision_has_no_ready_replica(run: Run) -> None:
    async def body(on: Stage, key: Key) -> None:
        await upset(on, await on.serve(key))
        on.outages = True
        on.clock.reach(on.clock() + LOST_SECONDS + 1)
        found = await said(on, key, "Progressing", "Recovering")
        assert "no ready replica" in found["message"]
        assert (await on.on.condition(key, "Ready"))["reason"] == "NotServing"

    run(body)


def row(plane: ControlPlane, key: Key) -> tuple[list[str], str]:
    """Name, READY and REASON of what `kubectl get` prints, and its MESSAGE."""
    head, line = plane.kubectl("get", "sgl", key.name, f"-n{key.namespace}", "-owide").splitlines()
    assert head.split()[:3] == ["NAME", "READY", "REASON"]
    return line.split()[:3], line[head.index("MESSAGE") :]


def test_kubectl_get_says_whether_it_is_up_and_why_not(run: Run, control_plane: ControlPlane) -> None:
    async def broken(on: Stage, key: Key) -> None:
        on.kubelet.no_image = True
        await said(on, key, "Degraded", "RevisionFailing")
        columns, message = row(control_plane, key)
        assert columns == [key.name, "False", "ImagePullFailed"]
        assert NO_IMAGE["message"] in message
        assert "spec.engine.image" in message
        await on.on.edit(key, engine={"args": {"no_such_argument": 1}})
        await said(on, key, "Accepted", "InvalidSpec")
        columns, message = row(control_plane, key)
        assert columns == [key.name, "False", "InvalidSpec"]
        assert "no_such_argument" in message

    async def whole(on: Stage, key: Key) -> None:
        revision = await on.serve(key)
        columns, message = row(control_plane, key)
        assert columns == [key.name, "True", "Serving"]
        assert message.strip() == f"{revision} answers with 1 replicas"

    run(broken)
    run(whole, replicas=1)


def test_an_upgrade_on_trial_then_draining_then_complete(run: Run) -> None:
    async def body(on: Stage, key: Key) -> None:
        first = await on.serve(key)
        assert (await on.on.condition(key, "Degraded"))["reason"] == "AsExpected"
        assert (await on.on.condition(key, "UpdateAvailable"))["reason"] == "UpToDate"
        await on.on.edit(key, **EDIT)
        found = await said(on, key, "Progressing", "OnTrial")
        assert first in found["message"]
        on.clock.reach(on.clock() + TRIAL_SECONDS + 1)
        await said(on, key, "Progressing", "Draining")
        await said(on, key, "Progressing", "RolloutComplete")

    run(body, upgrade={"minReadySeconds": TRIAL_SECONDS})


def test_what_is_lost_on_trial_gives_the_traffic_back(run: Run) -> None:
    async def body(on: Stage, key: Key) -> None:
        first = await on.serve(key)
        await on.on.edit(key, **EDIT)
        await said(on, key, "Progressing", "OnTrial")
        second = await on.selected(key)
        await upset(on, second)
        on.outages = True
        on.clock.reach(on.clock() + LOST_SECONDS + 1)
        await said(on, key, "Progressing", "RolledBack")
        assert await on.selected(key) == first
        assert (await on.revision(key, second))["reason"] == "LostAfterSwitch"

    run(body, upgrade={"minReadySeconds": TRIAL_SECONDS})


def test_a_failure_under_recreate_goes_back_by_a_second_outage(run: Run) -> None:
    async def body(on: Stage, key: Key) -> None:
        first = await on.serve(key)
        on.kubelet.no_image = on.outages = True
        await on.on.edit(key, **EDIT)
        found = await said(on, key, "Progressing", "RollingBack")
        assert f"going back to {first} by a second outage" in found["message"]
        await said(on, key, "Progressing", "RolledBack")
        assert await on.selected(key) == first

    run(body, upgrade={"strategy": "Recreate"})


def test_the_next_revision_waits_for_the_pods_of_the_last(run: Run) -> None:
    async def body(on: Stage, key: Key) -> None:
        await on.serve(key)
        on.engines.loading = True
        await on.on.edit(key, **EDIT)
        await said(on, key, "Progressing", "StartingRevision")
        await on.on.edit(key, engine={"args": {"mem_fraction_static": 0.6}})
        await said(on, key, "Progressing", "WaitingForOldPods")

    run(body)


def test_no_progress_and_nothing_to_go_back_to(run: Run) -> None:
    async def body(on: Stage, key: Key) -> None:
        on.engines.loading = True
        await said(on, key, "Progressing", "StartingRevision")

        async def pods_run() -> bool:
            return bool(on.engines.revisions)

        await on.until(pods_run, key)
        on.clock.reach(on.clock() + DEADLINE_SECONDS + 1)
        assert "is kept" in (await said(on, key, "Degraded", "ProgressDeadlineExceeded"))["message"]

    run(body, upgrade={"progressDeadlineSeconds": DEADLINE_SECONDS})


def test_pods_that_cannot_be_reached(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nobody(addresses: Any, *, generate: bool) -> Answers:
        return Answers(Probe.UNREACHABLE, error="no route") if addresses else Answers()

    async def body(on: Stage, key: Key) -> None:
        monkeypatch.setattr(on.engines, "ask", nobody)
        found = await said(on, key, "Progressing", "ProbeUnreachable")
        assert "NetworkPolicy" in found["message"]
        assert await on.selected(key) == ""

    run(body)


def test_kuberay_that_does_not_act(run: Run, control_plane: ControlPlane) -> None:
    async def body(on: Stage, key: Key) -> None:
        control_plane.kill("ray-operator")
        try:
            await said(on, key, "Progressing", "StartingRevision")
            on.clock.reach(on.clock() + SILENT_SECONDS + 1)
            found = await said(on, key, "Progressing", "KubeRaySilent")
        finally:
            control_plane.start("ray-operator")
        assert (found["status"], found["message"].split(":")[0]) == ("Unknown", "KubeRay does not act")
        await on.serve(key)

    run(body)


def test_a_quota_on_rayservices(run: Run) -> None:
    async def body(on: Stage, key: Key) -> None:
        quota = {"metadata": {"name": "none"}, "spec": {"hard": {"count/rayservices.ray.io": "0"}}}
        path = f"/api/v1/namespaces/{on.on.namespace}/resourcequotas"
        await on.api.create(path, quota)

        async def counted() -> bool:
            return "hard" in (await on.api.get(f"{path}/none")).get("status", {})

        await until(counted)
        assert "exceeded quota" in (await said(on, key, "Progressing", "RefusedByCluster"))["message"]
        await on.api.delete(f"{path}/none")
        await on.serve(key)

    run(body)


def test_newer_defaults_are_told_and_wait(run: Run) -> None:
    async def body(on: Stage, key: Key) -> None:
        revision = await on.serve(key)
        images = {vendor: f"registry.example.com/{vendor}:next" for vendor in ("nvidia", "amd", "cpu")}
        on.on.options = {"platform": replace(Platform(), images=images)}
        found = await said(on, key, "UpdateAvailable", "NewDefaults")
        assert "spec.restartToken" in found["message"]
        await on.on.settle(key)
        assert await on.selected(key) == revision
        await on.on.edit(key, restartToken="again")
        assert await on.serve(key) != revision
        assert (await said(on, key, "UpdateAvailable", "UpToDate"))["status"] == "False"

    run(body)


def test_what_no_node_has_is_said_beforehand_and_stops_nothing(run: Run) -> None:
    async def body(on: Stage, key: Key) -> None:
        name = f"node-{key.namespace}"
        node = {"metadata": {"name": name}, "spec": {"unschedulable": True}}
        await on.api.create("/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", **node})
        try:
            offer = {"capacity": {"nvidia.com/gpu": "4"}, "allocatable": {"nvidia.com/gpu": "4"}}
            await on.api.patch(f"/api/v1/nodes/{name}/status", {"status": offer})
            on.on.options = {"nodes": Nodes(on.api)}
            await said(on, key, "Progressing", "StartingRevision")
            accepted = await on.on.condition(key, "Accepted")
            assert "needs 8 nvidia.com/gpu on one node, and the largest node has 4" in accepted["message"]
            assert accepted["status"] == "True"
            await on.serve(key)
            assert "largest node" not in (await on.on.condition(key, "Accepted"))["message"], "it has found a place"
        finally:
            await on.api.delete(f"/api/v1/nodes/{name}")

    run(body, accelerator={"vendor": "nvidia", "count": 8})
