"""What the runner is told on stdin, and what may go wrong with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class Failed(Exception):  # noqa: N818 - the name of the event it becomes
    """The endpoint cannot be served here: a `reason` in CamelCase, what happened, and what to do."""

    def __init__(self, reason: str, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.remedy = remedy


@dataclass(frozen=True)
class Spec:
    """One endpoint to serve on this machine."""

    serve_config: Mapping[str, Any]  # serveConfigV2, parsed
    env: Mapping[str, str]  # set before Ray is imported, so that every process of it has it
    http_port: int = 8000
    http_host: str = "127.0.0.1"  # a laptop's network is not a cluster's: open it on purpose only
    grace_seconds: float = 30  # how long running streams may go on after the first signal

    @property
    def application(self) -> Mapping[str, Any]:
        """The one application: an SGLangEndpoint becomes exactly one."""
        (application,) = self.serve_config["applications"]
        return dict(application)

    @property
    def url(self) -> str:
        """Where a client of this machine reaches the endpoint."""
        host = "127.0.0.1" if self.http_host == "0.0.0.0" else self.http_host  # noqa: S104 - compared, not bound
        return f"http://{host}:{self.http_port}"


def read_spec(line: str) -> Spec:
    """Parse the line of stdin; raises Failed if it is no such object (nobody but a program writes it)."""
    try:
        return Spec(**json.loads(line))
    except (TypeError, ValueError) as error:
        raise Failed("BadSpec", f"stdin: not the JSON object of sglang_serve.local: {error}", "see its docs") from error


def needed_cpus(application: Mapping[str, Any]) -> float:
    """Logical CPUs of all replicas: in a cluster each pod brings its own, here one Ray has to offer the sum."""
    return sum(_cpus(deployment) * _replicas(deployment) for deployment in application.get("deployments", []))


def needed_gpus(application: Mapping[str, Any]) -> float:
    """GPUs that all replicas together need at once."""
    return sum(_gpus(deployment) * _replicas(deployment) for deployment in application.get("deployments", []))


def _replicas(deployment: Mapping[str, Any]) -> int:
    scaling = deployment.get("autoscaling_config") or {}
    return int(scaling.get("max_replicas") or deployment.get("num_replicas") or 1)


def _cpus(deployment: Mapping[str, Any]) -> float:
    bundles = deployment.get("placement_group_bundles") or []
    actor = (deployment.get("ray_actor_options") or {}).get("num_cpus", 1)
    return float(sum(bundle.get("CPU", 0) for bundle in bundles) if bundles else actor)


def _gpus(deployment: Mapping[str, Any]) -> float:
    bundles = deployment.get("placement_group_bundles") or []
    actor = (deployment.get("ray_actor_options") or {}).get("num_gpus", 0)
    return float(sum(bundle.get("GPU", 0) for bundle in bundles) if bundles else actor)
