"""Kubernetes' strategic merge patch over a pod template, for `spec.podTemplate`.

As `kubectl patch --type=strategic`: maps are merged, null removes a key, `$patch: replace` in a map replaces it, lists
with a merge key are merged by it (`$patch: delete` in an item removes that item), every other list is replaced. Beyond
it, a variable, a probe or a hook changes its kind without a null. Written down here instead of read from an API server,
because rendering is offline and must give the same bytes everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

MERGE_KEYS: Final[Mapping[str, str]] = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "ports": "name",
    "imagePullSecrets": "name",
    "resourceClaims": "name",
    "schedulingGates": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
}
"""By what the items of a list are merged; a list that is not here (tolerations, command) is replaced as a whole."""

ONE_OF: Final = frozenset({"volumes", "env"})
"""Lists whose items hold one of several sources: what the patch does not name goes, so two never stand together."""

HANDLED: Final = frozenset({"livenessProbe", "readinessProbe", "startupProbe", "preStop", "postStart"})
HANDLERS: Final = frozenset({"exec", "httpGet", "tcpSocket", "grpc", "sleep"})
"""What a probe or a hook does, of which an API server takes one: another kind replaces the one that was there."""

DIRECTIVE: Final = "$patch"


class BadPatch(ValueError):  # noqa: N818 - what the patch is
    """The patch does not fit: `path` (from the template's root), the `value` there, `message` and `remedy`."""

    def __init__(self, path: str, value: Any, message: str, remedy: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path
        self.value = value
        self.message = message
        self.remedy = remedy


def merge(base: Mapping[str, Any], patch: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """`base` with `patch` applied; neither is changed. Raises BadPatch."""
    directive = patch.get(DIRECTIVE)
    if directive not in (None, "replace"):
        raise BadPatch(_join(path, DIRECTIVE), directive, "unknown directive", "use null to remove a key, or replace")
    result = {} if directive == "replace" else dict(base)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif key.startswith("$"):
            _refuse_other_directives(key, value, path)
        else:
            result[key] = _merge_value(key, result.get(key), value, _join(path, key))
    return result


def _merge_value(key: str, base: Any, value: Any, path: str) -> Any:
    if base is not None and _kind(base) != _kind(value):
        raise BadPatch(path, value, f"must be {_kind(base)}", "write it as in a Kubernetes pod template")
    if isinstance(value, Mapping):
        return merge(_without_other_handlers(key, base or {}, value), value, path)
    if isinstance(value, list):
        return _merge_lists(base or [], value, key, path) if key in MERGE_KEYS else value
    return value


def _without_other_handlers(key: str, base: Mapping[str, Any], patch: Mapping[str, Any]) -> Mapping[str, Any]:
    """`base` without the handlers that the patch of a probe or a hook replaces by one of another kind."""
    given = {name for name in HANDLERS if patch.get(name) is not None}
    if key not in HANDLED or not given:
        return base
    return {name: value for name, value in base.items() if name not in HANDLERS - given}


def _merge_lists(base: Sequence[Any], patch: Sequence[Any], field: str, path: str) -> list[Any]:
    """Items of `base` stay where they are, new ones follow in the order of the patch."""
    key = MERGE_KEYS[field]
    items = {item[key]: item for item in base}
    for position, change in enumerate(patch):
        where = f"{path}[{position}]"
        name = _merge_key(change, key, where)
        old = items.get(name, {})
        if change.get(DIRECTIVE) == "delete":
            items.pop(name, None)
        elif field in ONE_OF:
            items[name] = merge({known: value for known, value in old.items() if known in change}, change, where)
        else:
            items[name] = merge(old, change, where)
    return list(items.values())


def _merge_key(item: Any, key: str, path: str) -> Any:
    if not isinstance(item, Mapping):
        raise BadPatch(path, item, "must be an object", f"write an object with {key!r}")
    if not isinstance(item.get(key), str):
        raise BadPatch(_join(path, key), item.get(key), "items of this list are merged by it", f"add a {key!r}")
    return item[key]


def _refuse_other_directives(key: str, value: Any, path: str) -> None:
    if key != DIRECTIVE:
        raise BadPatch(_join(path, key), value, "unknown directive", "use null to remove a key, or $patch")


def _kind(value: Any) -> str:
    return "an object" if isinstance(value, Mapping) else "a list" if isinstance(value, list) else "a single value"


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
