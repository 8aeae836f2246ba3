"""How this process finds its API server: the service account of its pod, or a kubeconfig."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from kubernetes.aio import config
from kubernetes.aio.client import Configuration

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


async def load_configuration() -> Configuration:
    """For requests. Renews tokens by itself. Raises kubernetes.aio.config.ConfigException if there is neither."""
    configuration = Configuration()
    if is_in_pod():
        config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    else:
        await config.load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    return configuration


def own_namespace() -> str:
    """Where this process runs, or the namespace of the kubeconfig's context; "default" if nothing says so."""
    if name := pod_namespace():
        return name
    _, active = config.list_kube_config_contexts()  # type: ignore[no-untyped-call]
    return str(active["context"].get("namespace") or "default")


def pod_namespace() -> str:
    """Where this process runs as a pod; "" outside of a cluster."""
    if name := os.environ.get("POD_NAMESPACE"):
        return name
    return (SERVICE_ACCOUNT / "namespace").read_text().strip() if is_in_pod() else ""


def is_in_pod() -> bool:
    """A service account's token is mounted."""
    return (SERVICE_ACCOUNT / "token").exists()
