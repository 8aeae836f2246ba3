"""What a patch of `spec.podTemplate` mounts and has no volume of that name: pods are refused for it, one by one.

Warnings, as a mutating webhook may add the volume. A test holds the names to the renderer's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from sglang_operator.api.errors import FieldError, show
from sglang_operator.api.findings import closest
from sglang_operator.api.spec import EndpointSpec

_KEYS: Final = frozenset({"api-keys", "admin-key"})
# What each group of pods may have, whatever fields ask for it.
RENDERED: Final[Mapping[str, frozenset[str]]] = {
    "head": frozenset({"shared-mem", "kubernetes-api"}) | _KEYS,
    "worker": frozenset({"shared-mem", "model-cache", "model", "adapters"}) | _KEYS,
}
# KubeRay adds them itself: for the autoscaler's log, and for the token of Ray's authentication.
_KUBERAYS: Final = frozenset({"ray-logs", "ray-token"})
_LISTS: Final = {"volumeMounts": "mountPath", "volumeDevices": "devicePath"}


def unmounted(spec: EndpointSpec) -> Iterator[FieldError]:
    """A warning for each mount of a patch that has no volume."""
    for group, known in RENDERED.items():
        patch = getattr(spec.pod_template, group).get("spec")
        volumes = _items(patch, "volumes")
        gone = _names([one for one in volumes if one.get("$patch") == "delete"])
        there = (known | _KUBERAYS | _names(volumes)) - gone
        for path, name in _mounts(patch):
            if name not in there:
                yield _warning(f"spec.podTemplate.{group}.spec", path, name, there)


def _warning(pod: str, path: str, name: str, there: frozenset[str]) -> FieldError:
    meant = closest(name, there)
    remedy = f"did you mean {meant}? Otherwise add" if meant else "add"
    message = "no volume of this name: every pod is refused, unless a webhook of the cluster adds it"
    return FieldError(f"{pod}.{path}", name, message, f"{remedy} {{name: {name}, …}} to {pod}.volumes")


def _mounts(patch: Any) -> Iterator[tuple[str, str]]:
    """Where a container names a volume, and which. What only changes a mount that is there may leave the name out."""
    for part in ("initContainers", "containers"):
        for container in _items(patch, part):
            for field, key in _LISTS.items():
                for mount in _items(container, field):
                    if isinstance(name := mount.get("name"), str) and mount.get("$patch") != "delete":
                        yield f"{part}[{show(container.get('name'))}].{field}[{show(mount.get(key))}].name", name


def _names(items: list[Mapping[str, Any]]) -> frozenset[str]:
    return frozenset(one["name"] for one in items if isinstance(one.get("name"), str))


def _items(part: Any, field: str) -> list[Mapping[str, Any]]:
    """The objects in a list of a patch, which may be anything: other shapes the renderer refuses."""
    found = part.get(field) if isinstance(part, Mapping) else None
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []
