"""Labels, ports and mount points: the names that the rendered objects share."""

from __future__ import annotations

from typing import Final

from sglang_serve.args import DEFAULT_METRICS_PORT, FRONT_PORT

MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGER: Final = "sglang-operator"
ENDPOINT: Final = "serve.sglang.io/endpoint"
REVISION: Final = "serve.sglang.io/revision"
QUEUE: Final = "kueue.x-k8s.io/queue-name"
# KubeRay sets it "true" on every worker. On the head it is "false", or if the head holds requests at zero replicas,
# "true" while the head's front is healthy.
RAY_SERVE: Final = "ray.io/serve"
RAY_NODE_TYPE: Final = "ray.io/node-type"  # head or worker, by KubeRay

SERVE_PORT: Final = FRONT_PORT  # HAProxy of the node
DASHBOARD_PORT: Final = 8265  # takes Serve applications and jobs, that is: code
METRICS_PORT: Final = 8080  # Ray's metrics, by KubeRay's default, and Serve's among them
ENGINE_METRICS_PORT: Final = DEFAULT_METRICS_PORT  # SGLang's, of all replicas of the pod
PROXY_METRICS_PORT: Final = 9101  # HAProxy's, by Serve's default
AGENT_PORT: Final = 52365  # Ray's dashboard agent, which answers health checks

AUTOSCALER_SCRIPT: Final = "/opt/sglang-serve/sglang_serve/autoscaler.sh"  # of the serving images
WAIT_FOR_HEAD_SCRIPT: Final = "/opt/sglang-serve/sglang_serve/wait_for_head.sh"

KEYS_DIR: Final = "/etc/sglang-serve/keys"
ADMIN_DIR: Final = "/etc/sglang-serve/admin"
CACHE_DIR: Final = "/models/cache"
OBJECTS_DIR: Final = "/models/cache/objects"
PVC_ROOT: Final = "/models/pvc"


def cache_claim(endpoint: str) -> str:
    """Name of the claim that is created for `spec.model.cache` without a claimName."""
    return f"{endpoint}-cache"
