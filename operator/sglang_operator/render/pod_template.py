"""`spec.podTemplate`: the user's patches over the rendered pod templates, and what they may not touch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from sglang_operator.api import FieldError, InvalidEndpoint
from sglang_operator.api.base import LABEL_VALUE, PATTERN_WORDS, QUALIFIED_NAME
from sglang_operator.api.errors import show
from sglang_operator.api.findings import closest
from sglang_operator.api.free_json import part_at
from sglang_operator.render.pod_fields import CONTAINER, POD
from sglang_operator.render.strategic_merge import BadPatch, merge

# A pod label of KubeRay's own that is set here breaks the selector of its head Service.
FOREIGN_PREFIXES: Final = ("ray.io/", "serve.sglang.io/")
FOREIGN_LABELS: Final = ("app.kubernetes.io/name", "app.kubernetes.io/created-by")
_SHAPES: Final = {  # of what is looked into here
    "metadata": Mapping,
    "metadata.labels": Mapping,
    "metadata.annotations": Mapping,
    "spec": Mapping,
    "spec.containers": list,
    "spec.initContainers": list,
}
_LABEL_LENGTH: Final = 63


def patch_pod(template: Mapping[str, Any], patch: Mapping[str, Any], group: str) -> dict[str, Any]:
    """`template` with the user's patch for `group` (head or worker) applied. Raises InvalidEndpoint."""
    try:
        merged = merge(template, patch)
    except BadPatch as bad:
        raise InvalidEndpoint((_error(group, bad.path, bad.value, bad.message, bad.remedy),)) from None
    errors = tuple(_misshapen(merged, group)) or tuple(_findings(template, merged, patch, group))
    if errors:
        raise InvalidEndpoint(errors)
    return merged


def _misshapen(merged: Mapping[str, Any], group: str) -> Iterator[FieldError]:
    """What stands where nothing was before, so that the merge took it as it is, and is no object or no list."""
    for path, kind in _SHAPES.items():
        found = part_at(merged, path.split("."))
        if found is not None and not isinstance(found, kind):
            message = f"must be {'a list' if kind is list else 'an object'}"
            yield _error(group, path, found, message, "write it as in a Kubernetes pod template")


def _findings(
    template: Mapping[str, Any], merged: Mapping[str, Any], patch: Mapping[str, Any], group: str
) -> Iterator[FieldError]:
    yield from _foreign_parts(patch, group)
    yield from _foreign_metadata(patch.get("metadata"), group)
    labels = (merged.get("metadata") or {}).get("labels") or {}
    if not template["metadata"]["labels"].items() <= labels.items():
        yield _error(group, "metadata.labels", labels, "the labels that select the pod are gone", "add labels only")
    ray = template["spec"]["containers"][0]["name"]
    containers = (merged.get("spec") or {}).get("containers") or [{}]
    if containers[0].get("name") != ray:
        remedy = "add containers beside it instead"
        yield _error(group, "spec.containers", containers, f"the first container must stay {ray!r}", remedy)
    policy = (merged.get("spec") or {}).get("restartPolicy", "Never")
    if policy != "Never":
        yield _error(group, "spec.restartPolicy", policy, "KubeRay's autoscaler replaces pods", "remove it")
    yield from _misspelt(merged.get("spec") or {}, template["spec"], group)


def _misspelt(spec: Mapping[str, Any], rendered: Mapping[str, Any], group: str) -> Iterator[FieldError]:
    """Fields and containers that were meant to be others; what is like none is the API server's to judge."""
    yield from _misspelt_fields(spec, POD, "spec", group)
    for part in ("initContainers", "containers"):
        known = [one["name"] for one in rendered.get(part) or []]
        for one in spec.get(part) or []:
            path = f"spec.{part}[{show(one.get('name'))}]"
            yield from _misspelt_fields(one, CONTAINER, path, group)
            if not one.get("image"):
                yield _error(group, path, None, *_about_no_image(str(one.get("name")), known))


def _about_no_image(name: str, known: Sequence[str]) -> tuple[str, str]:
    """What is wrong with a container that has no image, and what to do. `known` are those that were rendered."""
    if name in known:
        return "has no image any more", "leave its image out of the patch, or give it one"
    if meant := closest(name, known):
        return "is a new container without an image", f"did you mean {show(meant)}?"
    patch_another = f", or patch {' or '.join(known)}" if known else ""
    return "is a new container without an image", f"give it one{patch_another}"


def _misspelt_fields(written: Mapping[str, Any], known: frozenset[str], path: str, group: str) -> Iterator[FieldError]:
    for name in sorted(set(written) - known):
        if meant := closest(name, known):
            yield _error(group, f"{path}.{name}", written[name], "unknown field", f"did you mean {meant}?")


def _foreign_parts(patch: Mapping[str, Any], group: str) -> Iterator[FieldError]:
    for key in sorted(set(patch) - {"metadata", "spec", "$patch"}):
        yield _error(group, key, patch[key], "not a part of a pod template", "use metadata or spec")


def _foreign_metadata(metadata: Any, group: str) -> Iterator[FieldError]:
    for key in sorted(set(metadata or {}) - {"labels", "annotations"}):
        yield _error(group, f"metadata.{key}", metadata[key], "is set by Kubernetes and KubeRay", "remove it")
    for part in ("labels", "annotations"):
        for name, value in sorted(((metadata or {}).get(part) or {}).items()):
            path = f'metadata.{part}["{name}"]'
            if name.startswith(FOREIGN_PREFIXES) or name in FOREIGN_LABELS:
                yield _error(group, path, value, "belongs to Ray, KubeRay or this operator", "remove it")
            elif not isinstance(value, str | None):
                yield _error(group, path, value, "must be text", "put it in quotes")
            elif part == "labels" and (wanted := _label_words(name, value)):
                yield _error(group, path, value, f"is no label: {wanted}", "change it, or make it an annotation")


def _label_words(name: str, value: str | None) -> str:
    """What a label must be, where this is none; a directive and what is to be removed are none of the pod's labels."""
    if value is None or name.startswith("$"):
        return ""
    if not re.fullmatch(QUALIFIED_NAME, name):
        return f"its name must be {PATTERN_WORDS[QUALIFIED_NAME]}"
    is_value = re.fullmatch(LABEL_VALUE, value) and len(value) <= _LABEL_LENGTH
    return "" if is_value else f"it must be {PATTERN_WORDS[LABEL_VALUE]}, {_LABEL_LENGTH} of them at most"


def _error(group: str, path: str, value: Any, message: str, remedy: str) -> FieldError:
    return FieldError(f"spec.podTemplate.{group}.{path}", value, message, remedy)
