"""One endpoint in a small server, with the real reconciler, a KubeRay and a clock that tests turn."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from typing import Any, Final

from unit.small_server import Json, SmallServer

from sglang_operator.cluster.metadata import stamp
from sglang_operator.cluster.paths import ENDPOINT, POD, RAY_CLUSTER, RAY_SERVICE, SERVICE
from sglang_operator.cluster.probe import Answers, Held, Prober, Report
from sglang_operator.cluster.reconcile import Reconciler
from sglang_operator.cluster.types import Key, Result
from sglang_operator.lifecycle.observed import Probe

KEY: Final = Key("default", "qwen3")


class Answering(Prober):
    """Every pod has a replica that answers."""

    async def ask(self, addresses: Sequence[str], *, generate: bool) -> Answers:
        reports = tuple(Report(one, one, "", 0, 99.0) for one in addresses)
        return Answers(Probe.ANSWERED, reports) if reports else Answers()

    async def ask_head(self, address: str) -> Held | None:
        return None


class SmallCluster:
    """`now` is its clock."""

    def __init__(self, **spec: Any) -> None:
        self.now = 1_700_000_000.0
        self.server = SmallServer(lambda: self.now)
        self.operator = Reconciler(self.server, Answering(), lambda: self.now)
        self._addresses = itertools.count(1)
        self.create(**spec)

    def create(self, **spec: Any) -> None:
        body = {"spec": {"model": {"uri": "hf://Qwen/Qwen3-8B"}, "replicas": 1, **copy.deepcopy(spec)}}
        self.server.put(ENDPOINT.of(*KEY), {"apiVersion": ENDPOINT.api_version, "kind": ENDPOINT.name, **body})

    def edit(self, **spec: Any) -> None:
        live = self.server.objects[ENDPOINT.of(*KEY)]
        live["spec"] |= spec
        live["metadata"]["generation"] += 1

    async def settle(self, seconds: float = 0.0) -> Result:
        """Time goes by, then pass after pass until one changes nothing; what is refused changes nothing."""
        self.now += seconds
        for _ in range(30):
            before = copy.deepcopy(self.server.objects)
            result = await self.operator.reconcile(KEY)
            if self.server.objects == before:
                return result
        raise AssertionError(f"it never came to rest: {self.server.written[-10:]}")

    async def serve(self) -> str:
        """The endpoint comes up; the name of its revision."""
        await self.settle()
        self.kuberay()
        for _ in range(2):
            await self.settle(30)
        return self.revisions()[-1]

    def revisions(self) -> list[str]:
        """Names of the RayServices, the oldest first."""
        return [at.rpartition("/")[2] for at in self.server.objects if "/rayservices/" in at]

    def kuberay(self, *, pods: bool = True, ready: bool = True, **cluster: Any) -> None:
        """Makes a RayCluster and pods of each RayService that has none."""
        for name in self.revisions():
            live = self.ray_service(name)
            at = RAY_CLUSTER.of(KEY.namespace, f"{name}-x")
            metadata = {"labels": live["metadata"]["labels"], "ownerReferences": [{"uid": live["metadata"]["uid"]}]}
            spec = {**copy.deepcopy(live["spec"]["rayClusterConfig"]), **cluster}
            if at not in self.server.objects:
                self.server.put(at, {"metadata": metadata, "spec": spec, "status": {"state": "ready"}})
            if pods:
                self._pods(name, self.server.objects[at], ready)

    def _pods(self, revision: str, cluster: Json, ready: bool) -> None:
        workers = cluster["spec"]["workerGroupSpecs"][0]["minReplicas"]
        for kind, index in (("head", 0), *(("worker", index) for index in range(workers))):
            at = POD.of(KEY.namespace, f"{revision}-{kind}-{index}")
            if at in self.server.objects:
                continue
            node = {"ray.io/node-type": kind, "ray.io/cluster": f"{revision}-x"}
            self.server.put(at, {"metadata": {"labels": {**cluster["metadata"]["labels"], **node}}, **self._pod(ready)})

    def _pod(self, ready: bool) -> Json:
        now = stamp(self.now)
        states = {"PodScheduled": "True", "Ready": str(ready)}
        told = [{"type": name, "status": status, "lastTransitionTime": now} for name, status in states.items()]
        container = {"name": "ray", "state": {"running": {"startedAt": now}}}
        address = f"10.0.0.{next(self._addresses)}"
        status = {"phase": "Running", "podIP": address, "conditions": told, "containerStatuses": [container]}
        return {"spec": {"nodeName": "n"}, "status": status}

    def ray_service(self, name: str) -> Json:
        return self.server.objects[RAY_SERVICE.of(KEY.namespace, name)]

    def workers(self, name: str) -> tuple[tuple[int, int], tuple[int, int]]:
        """Fewest and most worker pods, by the RayService and by its RayCluster."""
        clusters = self.ray_service(name)["spec"]["rayClusterConfig"], self.ray_cluster(name)["spec"]
        groups = [one["workerGroupSpecs"][0] for one in clusters]
        first, second = [(group["minReplicas"], group["maxReplicas"]) for group in groups]
        return first, second

    def ray_cluster(self, name: str) -> Json:
        return self.server.objects[RAY_CLUSTER.of(KEY.namespace, f"{name}-x")]

    @property
    def service(self) -> Json:
        return self.server.objects[SERVICE.of(*KEY)]

    @property
    def status(self) -> Json:
        found: Json = self.server.objects[ENDPOINT.of(*KEY)].get("status", {})
        return found

    def condition(self, name: str) -> Json:
        return next(one for one in self.status["conditions"] if one["type"] == name)
