"""Deploys an application's config once more, changed. Run by the engine environment's Python.

    python tests/engine/scale.py GCS_ADDRESS < serve_config.json

Returns when the deployment has that many running replicas, or at once if it is autoscaled.
"""

from __future__ import annotations

import json
import sys
import time

import ray
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema


def main() -> None:
    config = ServeDeploySchema.model_validate(json.load(sys.stdin))
    (application,) = config.applications
    bounds = application.deployments[0].autoscaling_config
    wanted = bounds["max_replicas"] if bounds["min_replicas"] == bounds["max_replicas"] else None
    ray.init(address=sys.argv[1], namespace="serve", log_to_driver=False)
    _get_global_client().deploy_apps(config)
    while wanted and running(application.name) != {"RUNNING": wanted}:
        time.sleep(0.5)
    ray.shutdown()


def running(name: str) -> dict[str, int]:
    """Replicas by state; those that drain do not count."""
    (deployment,) = serve.status().applications[name].deployments.values()
    return {str(state): count for state, count in deployment.replica_states.items() if state != "STOPPING" and count}


if __name__ == "__main__":
    main()
