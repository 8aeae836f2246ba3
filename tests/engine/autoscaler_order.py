"""What Ray's autoscaler ends of a worker group, by its own scheduler. Run by the engine's Python; the answer is JSON.

Pods "a" and "b" have a replica, "idle" has had its node for ten minutes, and "new" has none. A replica of two pods may
wait for them.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from ray.autoscaler.v2.instance_manager.config import NodeTypeConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.schema import AutoscalerInstance
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.core.generated.autoscaler_pb2 import GangResourceRequest, NodeState
from ray.core.generated.instance_manager_pb2 import Instance, NodeKind

IDLE_SECONDS = 60
ROOM = {"CPU": 8, "GPU": 1}
APART = [(ResourceRequestUtil.PlacementConstraintType.ANTI_AFFINITY, "replica", "1")]
GROUP = {"instance_type": "w", "node_kind": NodeKind.WORKER}


def started(name: str, *, idle_seconds: int = 0, used: bool = False) -> AutoscalerInstance:
    state = {"total_resources": ROOM, "available_resources": {} if used else ROOM}
    ray_node = NodeState(node_id=name.encode(), ray_node_type_name="w", idle_duration_ms=idle_seconds * 1000, **state)
    instance = Instance(instance_id=name, node_id=name, status=Instance.RAY_RUNNING, **GROUP)
    return AutoscalerInstance(im_instance=instance, ray_node=ray_node, cloud_instance_id=name)


def waiting(name: str) -> AutoscalerInstance:
    instance = Instance(instance_id=name, status=Instance.ALLOCATED, **GROUP)
    return AutoscalerInstance(im_instance=instance, cloud_instance_id=name)


PODS = {
    "a": started("a", used=True),
    "b": started("b", used=True),
    "idle": started("idle", idle_seconds=600),
    "new": waiting("new"),
}


def ended(names: list[str], fewest: int, most: int, *, asked: bool) -> dict[str, Any]:
    """Pods that go, and how many come; `asked`: a replica of two pods waits."""
    gang = GangResourceRequest(requests=[ResourceRequestUtil.make(ROOM, APART) for _ in range(2)])
    group = NodeTypeConfig(name="w", resources=ROOM, min_worker_nodes=fewest, max_worker_nodes=most)
    request = SchedulingRequest(
        node_type_configs={"w": group},
        max_num_nodes=100,
        current_instances=[PODS[name] for name in names],
        gang_resource_requests=[gang] if asked else [],
        idle_timeout_s=IDLE_SECONDS,
        disable_launch_config_check=True,
    )
    reply = ResourceDemandScheduler().schedule(request)
    come = sum(launch.count for launch in reply.to_launch)
    return {"go": sorted(one.instance_id for one in reply.to_terminate), "come": come}


if __name__ == "__main__":
    print(json.dumps([ended(**case) for case in json.loads(sys.argv[1])]))
