"""A revision that serves, whose replicas take several pods: KubeRay, the scheduler, Serve and Ray's autoscaler with it.

What the operator writes is the real thing (`InPlace`, `cluster_patch`); what the others make of it is here as their
sources have it. Serve stops what does not run first, and goes on asking for its nodes until the drain limit. The
autoscaler ends pods above the upper bound, those that never ran first, and after a minute idle ones that nobody needs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from sglang_operator.cluster.in_place import InPlace, cluster_patch
from sglang_operator.lifecycle import decide
from sglang_operator.lifecycle.observed import (
    Live,
    Observed,
    Presence,
    Probe,
    Record,
    Revision,
    Selection,
    Unschedulable,
)
from sglang_operator.lifecycle.plan import ApplyInPlace, FreeAccelerators, Plan
from sglang_operator.lifecycle.wanted import Bounds, UpgradePolicy, Wanted

EACH: Final = 2  # pods of a replica
LOAD_SECONDS: Final = 40.0
IDLE_SECONDS: Final = 60.0
STEP: Final = 20.0
POLICY: Final = UpgradePolicy(capacity_timeout=200, drain=200)


@dataclass(eq=False)
class Pod:
    """A worker."""

    name: str
    since: float  # it has its node, or the scheduler has none
    has_node: bool = False
    idle_since: float | None = None


@dataclass(eq=False)
class Replica:
    """What Serve has started."""

    pods: list[Pod]
    since: float


@dataclass
class GrowingWorld:
    """Time goes in steps; what the operator knows it reads from here, and nothing else stays."""

    wanted: Wanted = field(default_factory=lambda: Wanted("a", settings="1", policy=POLICY))
    nodes: int = EACH
    now: float = 1000.0
    pods: list[Pod] = field(default_factory=list)
    replicas: list[Replica] = field(default_factory=list)
    values: InPlace = field(default_factory=lambda: InPlace(1, {}, "1"))
    group: dict[str, Any] = field(default_factory=lambda: {"groupName": "w", "minReplicas": EACH, "maxReplicas": EACH})
    asks_until: float = 0.0  # of a replica that Serve stops before it has its pods
    lacked: bool = False
    silent: bool = False
    edited: bool = False  # the user wants fewer replicas than run
    longest_idle: float = 0.0
    ended: list[str] = field(default_factory=list)  # running replicas that nobody's node and no wish of the user's took
    made: int = 0

    # What others do ------------------------------------------------------------------------------------------------
    def step(self) -> None:
        self.now += STEP
        self._lose_nodes()
        self._serve()
        self._make_pods()
        self._schedule()
        self._serve()
        self._scale()
        for pod in self._idle():
            self.longest_idle = max(self.longest_idle, self.now - (pod.idle_since or self.now))

    def _lose_nodes(self) -> None:
        while sum(pod.has_node for pod in self.pods) > self.nodes:
            self._end(next(pod for pod in reversed(self.pods) if pod.has_node))

    def _make_pods(self) -> None:
        while len(self.pods) < self.group["minReplicas"]:
            self.made += 1
            self.pods.append(Pod(f"w{self.made}", self.now))

    def _schedule(self) -> None:
        for pod in self.pods:
            if not pod.has_node and sum(other.has_node for other in self.pods) < self.nodes:
                pod.has_node, pod.since, pod.idle_since = True, self.now, self.now

    def _serve(self) -> None:
        target = self.values.counts[0]
        if self.lacked and len(self.replicas) + 1 > target:
            self.asks_until = self.now + self.wanted.policy.drain
        for replica in sorted(self.replicas, key=lambda one: (self._runs(one), -one.since))[: -target or None]:
            self._stop(replica)
        while len(self.replicas) < target and len(self._idle()) >= EACH:
            self.replicas.append(Replica(self._idle()[:EACH], self.now))
        self.lacked = len(self.replicas) < target
        used = {pod for replica in self.replicas for pod in replica.pods}
        for pod in self.pods:
            pod.idle_since = None if pod in used or not pod.has_node else pod.idle_since or self.now

    def _stop(self, replica: Replica) -> None:
        if self._runs(replica) and not self.edited:
            self.ended.append("by Serve")
        self.replicas.remove(replica)

    def _scale(self) -> None:
        while len(self.pods) > self.group["maxReplicas"]:
            self._end(min(self.pods, key=lambda pod: (pod.has_node, pod not in self._idle())), "by the autoscaler")
        for pod in self._idle():
            is_old = self.now - (pod.idle_since or self.now) > IDLE_SECONDS
            if is_old and len(self.pods) > self.group["minReplicas"] and not self._is_needed():
                self._end(pod)

    def _is_needed(self) -> bool:
        """A replica that Serve asks for could have its pods from here, without more than there may be."""
        asks = self.lacked or self.now < self.asks_until
        free = [pod for pod in self.pods if not pod.has_node or pod in self._idle()]
        return asks and len(free) + self.group["maxReplicas"] - len(self.pods) >= EACH

    def _end(self, pod: Pod, by: str = "") -> None:
        for replica in [one for one in self.replicas if pod in one.pods]:
            self.ended += [by] if by and self._runs(replica) else []
            self.replicas.remove(replica)
        self.pods.remove(pod)

    def _idle(self) -> list[Pod]:
        used = {pod for replica in self.replicas for pod in replica.pods}
        return [pod for pod in self.pods if pod.has_node and pod not in used]

    def _runs(self, replica: Replica) -> bool:
        return self.now >= replica.since + LOAD_SECONDS

    @property
    def running(self) -> int:
        """Replicas that answer."""
        return sum(map(self._runs, self.replicas))

    # What the user does --------------------------------------------------------------------------------------------
    def scale(self, replicas: int) -> None:
        self.wanted = Wanted("a", str(replicas), Bounds(replicas, replicas), self.wanted.policy)

    # What the operator does ----------------------------------------------------------------------------------------
    def observe(self) -> Observed:
        placed = sorted(pod.since for pod in self.pods if pod.has_node)
        waiting = [pod.since for pod in self.pods if not pod.has_node]
        spare = len(placed) % EACH
        live = Live(
            Presence.PRESENT,
            "uid",
            clusters=1,
            pods=1 + len(self.pods),
            worker_pods=len(self.pods),
            released=self.values.released,
            ready_replicas=self.running,
            target_replicas=self.values.counts[0],
            probe=Probe.ANSWERED if self.running else Probe.NOT_ASKED,
            progress=self.now,
            unschedulable=Unschedulable(min(waiting), "no node is free") if waiting else None,
            placed=len(placed) // EACH,
            half_placed_since=placed[-spare] if spare else None,
            settings=self.values.settings,
            taken_back=self.values.taken_back,
        )
        revision = Revision("a", Record(1), live)
        return Observed((revision,), Selection("a", resource_version="1"), kuberay_silent=self.silent)

    def plan(self) -> Plan:
        return decide(self.wanted, self.observe(), self.now)

    def reconcile(self, plan: Plan | None = None) -> Plan:
        """A pass. `plan`: one that has slept since it read."""
        plan = plan or self.plan()
        for action in plan.actions:
            match action:
                case ApplyInPlace():
                    count = int(action.settings)
                    self.edited = count < self.running
                    self.values = InPlace(count, {}, action.settings).within(action.taken_back)
                case FreeAccelerators():
                    self.values = InPlace(**{**vars(self.values), "released": True})
                case _:
                    raise AssertionError(f"{action} of a revision that serves and only grows")
        return plan

    def bound(self) -> None:
        """What a later pass brings to the RayCluster; KubeRay ends pods that are named."""
        fewest, most = self.values.bounds
        waiting, names = sum(not pod.has_node for pod in self.pods), tuple(pod.name for pod in self.pods)
        cluster = {"spec": {"workerGroupSpecs": [self.group]}}
        bounds, released = (fewest * EACH, most * EACH), self.values.released
        for one in cluster_patch(cluster, bounds, names, waiting=waiting, released=released):
            if one["op"] == "add":
                self.group[one["path"].rpartition("/")[2]] = one["value"]
        going = (self.group.pop("scaleStrategy", None) or {}).get("workersToDelete", ())
        for pod in [pod for pod in self.pods if pod.name in going]:
            self._end(pod, "by name")

    def run(self, seconds: float) -> None:
        """Passes and time in turn."""
        end = self.now + seconds
        while self.now < end:
            self.reconcile()
            self.bound()
            self.step()
