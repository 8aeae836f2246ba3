"""Pods of a lost node, whose end nobody else sees to.

Kubernetes evicts them, and waits for the kubelet there to say that they have ended, for ever if the Node object stays.
A Deployment makes another pod meanwhile. KubeRay 1.6.1 does not: it counts them, heads too, so that a replica on such a
node, or an endpoint whose head was there, comes back only when somebody deletes the pod by force or the Node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sglang_operator.cluster.api import Api
from sglang_operator.cluster.metadata import name_of
from sglang_operator.cluster.paths import POD
from sglang_operator.cluster.pods import is_given_up, is_ray


async def end_given_up(api: Api, pods: Sequence[Mapping[str, Any]], now: float) -> None:
    """Delete them by force, each only as it was read: its node may just be back. Serving pods keep nothing, so that one
    which still runs behind a broken network does no harm; its kubelet ends it when it is heard of again."""
    for pod in pods:
        if is_ray(pod) and is_given_up(pod, now):  # labels alone make no pod ours to end
            metadata = pod["metadata"]
            path = POD.of(metadata["namespace"], name_of(pod))
            await api.delete(path, uid=metadata["uid"], version=metadata["resourceVersion"], by_force=True)
