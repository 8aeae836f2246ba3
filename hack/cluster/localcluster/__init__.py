"""A real Kubernetes with real KubeRay on the developer's own machine, without images or binaries to download.

ControlPlane is the fast half: API server, controllers and KubeRay as plain processes, no root, no pods that run.
"""

from localcluster.controlplane import ControlPlane
from localcluster.missing import Missing

__all__ = ["ControlPlane", "Missing"]
