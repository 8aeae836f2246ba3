"""Whole rollouts without a node: the kubelet is played by hand, the engines' answers are given, all else is real.

The fast control plane has no node, so the pods that KubeRay makes stay Pending. `Kubelet` writes into their status what
a kubelet would; they stay unbound, so that a delete is instant. `Engines` says what the replicas in them would answer.
It is a fake for injecting these answers, and for nothing else: what an engine really answers is tested in tests/engine
and tests/cluster.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sglang_operator.cluster.api import Api, ApiError
from sglang_operator.cluster.metadata import condition_of, is_terminating, labels_of, name_of, stamp
from sglang_operator.cluster.paths import POD
from sglang_operator.cluster.pods import is_worker
from sglang_operator.cluster.probe import Adapter, Answers, Held, Prober, Report
from sglang_operator.lifecycle.observed import Probe
from sglang_operator.render import names

Object = dict[str, Any]
JSON: Final = "application/json"
NODE: Final = "played"
IDLE_SECONDS: Final = 60.0  # since a replica's last request: nobody sends any
NO_ROOM: Final = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/3 nodes are available: 3 Insufficient cpu.",
}
NO_IMAGE: Final = {"reason": "ErrImagePull", "message": 'failed to resolve "registry.example.com/no:such": not found'}


class Clock:
    """The time of the passes: that of the API server, and ahead of it where a limit has to pass."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self._ahead

    def reach(self, at: float) -> None:
        """It is `at` now, or later."""
        self._ahead += max(0.0, at - self())


class Engines(Prober):
    """What the replicas would answer (a fake, see above)."""

    def __init__(self) -> None:
        super().__init__()
        self.revisions: dict[str, str] = {}
        """Of the pods, by their addresses."""
        self.proven: set[str] = set()
        """Revisions whose replicas have all answered after they generated."""
        self.loading = False
        """Who has not proved itself yet does not answer, as while a model loads."""
        self.dead = False
        """Nobody answers, whatever the pods say."""
        self.config = ""
        """Id of the settings that every replica has."""
        self.adapters: tuple[Adapter, ...] = ()
        """What every replica says of them."""
        self.commit = ""
        """That every replica serves."""

    async def ask(self, addresses: Sequence[str], *, generate: bool) -> Answers:
        """Every replica answers, with no request under way."""
        if not addresses:
            return Answers()
        (revision,) = {self.revisions[address] for address in addresses}
        if self.dead or (self.loading and revision not in self.proven):
            return Answers(Probe.WRONG, error="503 no replica")
        if generate:
            self.proven.add(revision)
        return Answers(Probe.ANSWERED, tuple(map(self._report, addresses)))

    def _report(self, address: str) -> Report:
        return Report(address, address, self.config, 0, IDLE_SECONDS, self.adapters, self.commit)

    async def ask_head(self, address: str) -> Held | None:
        """None holds requests: nothing here scales to zero."""
        assert address
        return None


@dataclass
class Kubelet:
    """Starts pods of one namespace."""

    api: Api
    namespace: str
    engines: Engines
    no_image: bool = False
    """The image cannot be pulled of workers whose revision has not proved itself yet."""
    bind: bool = False
    """Give workers a node. Their delete takes until the next `play` then, and their log can be asked for."""
    each: int = 1
    """Workers of a replica. The one that completes it is Ready, the others have no front."""
    room: int | None = None
    """Workers that have nodes at one time; of the others the scheduler says that it has none."""
    _placed: int = 0
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    async def play(self) -> int:
        """Do what is to do now. Returns how many pods it changed."""
        pods = await self.api.list(POD.of(self.namespace))
        ending = [pod for pod in pods if is_terminating(pod)]
        new = [pod for pod in pods if not is_terminating(pod) and "containerStatuses" not in pod["status"]]
        self._placed = sum(is_worker(pod) and "containerStatuses" in pod["status"] for pod in pods if pod not in ending)
        changed = 0
        for act, pod in (*((self._end, pod) for pod in ending), *((self._start, pod) for pod in new)):
            try:
                changed += await act(pod)
            except ApiError as error:  # somebody has deleted it meanwhile
                if not error.is_absent:
                    raise
        return changed

    async def _end(self, pod: Object) -> bool:
        path, at_once = POD.of(self.namespace, name_of(pod)), {"gracePeriodSeconds": 0}
        await self.api._write("DELETE", path, {"apiVersion": "v1", "kind": "DeleteOptions", **at_once}, JSON)
        return True

    async def _refuse(self, pod: Object) -> bool:
        """As the scheduler does, once."""
        if condition_of(pod, "PodScheduled").get("reason") == NO_ROOM["reason"]:
            return False
        said = {**NO_ROOM, "lastTransitionTime": stamp(time.time())}
        await self.api.patch(POD.of(self.namespace, name_of(pod), "status"), {"status": {"conditions": [said]}})
        return True

    async def _start(self, pod: Object) -> bool:
        if is_worker(pod) and self._placed == self.room:
            return await self._refuse(pod)
        revision = labels_of(pod)[names.REVISION]
        if is_worker(pod) and self.bind:
            target = {"apiVersion": "v1", "kind": "Node", "name": NODE}
            body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name_of(pod)}, "target": target}
            await self.api.create(POD.of(self.namespace, name_of(pod), "binding"), body)
        broken = self.no_image and is_worker(pod) and revision not in self.engines.proven
        self._placed += is_worker(pod)
        is_ready = not is_worker(pod) or self._placed % self.each == 0
        running = _running(pod, self._address(pod, revision), is_ready=is_ready)
        status = _waiting(pod, NO_IMAGE) if broken else running
        await self.api.patch(POD.of(self.namespace, name_of(pod), "status"), {"status": status})
        return True

    def _address(self, pod: Object, revision: str) -> str:
        number = next(self._numbers)
        if not is_worker(pod):
            return f"169.254.1.{number % 250 + 1}"  # the API server refuses to connect KubeRay there, without a wait
        address = f"198.18.{number // 250}.{number % 250 + 1}"
        self.engines.revisions[address] = revision
        return address


def _running(pod: Object, address: str, *, is_ready: bool) -> Object:
    now, said = stamp(time.time()), str(is_ready)
    ready = [{"type": kind, "status": said, "lastTransitionTime": now} for kind in ("Ready", "ContainersReady")]
    state = {"state": {"running": {"startedAt": now}}, "ready": is_ready, "started": True}
    where = {"podIP": address, "podIPs": [{"ip": address}]}
    return {"phase": "Running", "conditions": ready, **where, "containerStatuses": _containers(pod, state)}


def _waiting(pod: Object, why: Mapping[str, str]) -> Object:
    return {"phase": "Pending", "containerStatuses": _containers(pod, {"state": {"waiting": why}, "ready": False})}


def _containers(pod: Object, state: Object) -> list[Object]:
    common = {"imageID": "", "restartCount": 0, **state}
    return [{"name": one["name"], "image": one["image"], **common} for one in pod["spec"]["containers"]]
