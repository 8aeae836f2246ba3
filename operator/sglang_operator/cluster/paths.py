"""Where each kind lives in the API server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Kind:
    """One namespaced kind."""

    name: str
    group: str
    version: str
    plural: str
    is_optional: bool = False
    """Not every cluster has it."""

    def of(self, namespace: str, name: str = "", subresource: str = "") -> str:
        """Path of the collection in a namespace ("" for all of them), or of one object, or of its subresource."""
        base = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        scope = f"/namespaces/{namespace}" if namespace else ""
        tail = "".join(f"/{part}" for part in (name, subresource) if part)
        return f"{base}{scope}/{self.plural}{tail}"

    @property
    def api_version(self) -> str:
        """As objects write it."""
        return f"{self.group}/{self.version}" if self.group else self.version


ENDPOINT: Final = Kind("SGLangEndpoint", "serve.sglang.io", "v1alpha1", "sglangendpoints")
RAY_SERVICE: Final = Kind("RayService", "ray.io", "v1", "rayservices", is_optional=True)
RAY_CLUSTER: Final = Kind("RayCluster", "ray.io", "v1", "rayclusters", is_optional=True)
RECORD: Final = Kind("ControllerRevision", "apps", "v1", "controllerrevisions")
POD: Final = Kind("Pod", "", "v1", "pods")
SERVICE: Final = Kind("Service", "", "v1", "services")
CLAIM: Final = Kind("PersistentVolumeClaim", "", "v1", "persistentvolumeclaims")
EVENT: Final = Kind("Event", "", "v1", "events")
BUDGET: Final = Kind("PodDisruptionBudget", "policy", "v1", "poddisruptionbudgets")
INGRESS: Final = Kind("Ingress", "networking.k8s.io", "v1", "ingresses")
POLICY: Final = Kind("NetworkPolicy", "networking.k8s.io", "v1", "networkpolicies")
ROUTE: Final = Kind("HTTPRoute", "gateway.networking.k8s.io", "v1", "httproutes", is_optional=True)
LEASE: Final = Kind("Lease", "coordination.k8s.io", "v1", "leases")

KINDS: Final = {
    kind.name: kind
    for kind in (ENDPOINT, RAY_SERVICE, RAY_CLUSTER, RECORD, POD, SERVICE, CLAIM, BUDGET, INGRESS, POLICY, ROUTE)
}
