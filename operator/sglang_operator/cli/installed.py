"""`--defaults`: what an installation adds to each endpoint, from the chart's values or from their `defaults:` alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import click

from sglang_operator.api import FieldError, InvalidEndpoint
from sglang_operator.api.defaults import NONE, load_yaml
from sglang_operator.cli.manifests import InvalidManifest, Unreadable, text_of
from sglang_operator.render.defaults import require_defaults
from sglang_operator.render.platform import Platform, default_images, images_with

# The keys of the chart's values but those that a spec has as well; a test holds both together.
_OF_VALUES: Final = frozenset(
    {"affinity", "crds", "defaults", "enabled", "extraEnv", "fullnameOverride", "global", "image", "imagePullSecrets"}
    | {"images"}
    | {"kuberay", "log", "metrics", "nameOverride", "networkPolicy", "nodeSelector", "podAnnotations", "podLabels"}
    | {"podDisruptionBudget", "podSecurityContext", "priorityClassName", "rbac", "resyncSeconds", "securityContext"}
    | {"serviceAccount", "tolerations", "topologySpreadConstraints", "watchNamespaces", "workers"}
)


@dataclass(frozen=True)
class Installed:
    """What an operator would have been given."""

    defaults: Mapping[str, Any]
    platform: Platform


def read_installed(name: str, images: Sequence[str] = ()) -> Installed:
    """Read `name`, "" being none; `images` (VENDOR=IMAGE) go over its own.

    Raises InvalidManifest with every finding in the file, and click.BadParameter for a wrong item of `images`.
    """
    if not name:
        return Installed(NONE, Platform(images=_over({}, images)))
    try:
        values = _values(text_of(name))
        namespace = str(_part(values, "kuberay").get("namespace") or "")
        platform = Platform(images=_over(_images(values), images), kuberay_namespace=namespace)
        return Installed(require_defaults(values.get("defaults") or {}), platform)
    except Unreadable as error:
        raise InvalidManifest([(error.place, error.finding)]) from None
    except InvalidEndpoint as error:
        raise InvalidManifest([(name, finding) for finding in error.errors]) from None


def _values(text: str) -> Mapping[str, Any]:
    """The chart's values; a file without one of their keys is what stands under `defaults:`."""
    read = load_yaml(text)
    return read if isinstance(read, Mapping) and _OF_VALUES & set(read) else {"defaults": read}


def _part(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = values.get(name) or {}
    if not isinstance(found, Mapping):
        raise InvalidEndpoint((FieldError(name, found, "must be a mapping", "correct it"),))
    return found


def _images(values: Mapping[str, Any]) -> dict[str, str]:
    images, vendors = _part(values, "images"), default_images()
    if set(images) - set(vendors):
        wanted = f"must be a mapping with keys among {', '.join(vendors)}"
        raise InvalidEndpoint((FieldError("images", images, wanted, "write VENDOR: IMAGE under it"),))
    return {vendor: str(image) for vendor, image in images.items() if image}


def _over(images: Mapping[str, str], given: Sequence[str]) -> dict[str, str]:
    """Those of the file, and of the command line over them."""
    try:
        return images_with([*(f"{vendor}={image}" for vendor, image in images.items()), *given])
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="'--image'") from None
