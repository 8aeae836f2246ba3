"""The disruption budget as it goes to the cluster: of the revision that serves, and closed while a replica is missing.

Of a replica on several nodes only one pod is ever Ready. Kubernetes lets a pod that is not Ready be evicted while at
least `minAvailable` others are, without counting it: with one less than all replicas, drains of two nodes could take a
second replica while the first one is still down. So the number is that of all replicas while one of them is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from sglang_operator.cluster.metadata import labels_of
from sglang_operator.cluster.pods import is_ready, is_worker
from sglang_operator.render import names

COUNTED: Final = "IfHealthyBudget"  # the template's choice for replicas on several nodes
Object = dict[str, Any]


def live_budget(rendered: Object, revision: str, pods: Iterable[Mapping[str, Any]]) -> Object:
    """`rendered` for the pods of `revision`, which serves; if none does, there is nothing to protect."""
    spec = rendered["spec"]
    if not revision:
        return {**rendered, "spec": {**spec, "unhealthyPodEvictionPolicy": "AlwaysAllow"}}
    labels = {**spec["selector"]["matchLabels"], names.REVISION: revision}
    least = spec["minAvailable"]
    if spec["unhealthyPodEvictionPolicy"] == COUNTED and _ready(revision, pods) <= least:
        least += 1
    return {**rendered, "spec": {**spec, "minAvailable": least, "selector": {"matchLabels": labels}}}


def _ready(revision: str, pods: Iterable[Mapping[str, Any]]) -> int:
    return sum(is_worker(pod) and labels_of(pod).get(names.REVISION) == revision and is_ready(pod) for pod in pods)
