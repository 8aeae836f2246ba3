"""What the command line and the environment say, as one frozen value."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

LogFormat = Literal["json", "text"]


@dataclass(frozen=True)
class Options:
    """Settings of one operator process."""

    namespaces: tuple[str, ...] = ()
    """Which ones are served; none named: all of the cluster."""
    defaults: Path | None = None
    """YAML with platform defaults, merged under each spec."""
    images: tuple[str, ...] = ()
    """VENDOR=IMAGE, in place of the release's serving images."""
    workers: int = 4
    """Endpoints that are reconciled at the same time."""
    resync_seconds: float = 300.0
    """Every so often each endpoint is looked at although nothing was heard of it."""
    leader_election: bool = True
    lease_name: str = "sglang-operator"
    lease_namespace: str = ""
    """"": the pod's own, or the one of the kubeconfig's context."""
    kuberay_namespace: str = ""
    """Where KubeRay's operator runs; "": unknown."""
    read_nodes: bool = False
    """Look at the cluster's nodes, to say beforehand what none of them can take."""
    http_port: int = 8080
    """Port of health and metrics; 0: any free one, which the log names."""
    log_format: LogFormat = "json"
    log_level: str = "info"


def parse_namespaces(text: str) -> tuple[str, ...]:
    """`a, b` -> ("a", "b"), each once."""
    return tuple(dict.fromkeys(name for part in text.split(",") if (name := part.strip())))


def identity(environment: Mapping[str, str] = os.environ) -> str:
    """Name of this process in the Lease. A pod's name is its own, and a container that restarts in it comes back at
    once; elsewhere two processes may share a machine."""
    return environment.get("POD_NAME") or f"{socket.gethostname()}_{secrets.token_hex(4)}"
