"""What the platform decides for every endpoint, as opposed to what a user writes into one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sglang_operator.api.base import IMAGE
from sglang_operator.api.versions import versions


def default_images() -> dict[str, str]:
    """The serving image of this release by accelerator vendor, tagged with the versions that it holds."""
    images, known = versions()["images"], versions()
    tag = f"sglang{known['sglang']}-ray{known['ray']}"
    return {vendor: f"{images['registry']}/{images[vendor]}:{tag}" for vendor in ("nvidia", "amd", "cpu")}


def images_with(given: Iterable[str]) -> dict[str, str]:
    """The images of this release, those of `given` (VENDOR=IMAGE) in their place; of one vendor the last one counts.

    Raises ValueError that says what is wrong and what to write.
    """
    images = default_images()
    for text in given:
        vendor, _, image = (part.strip() for part in text.partition("="))
        if vendor not in images or not image or not re.fullmatch(IMAGE, image):
            wanted = f"write {', '.join(images)} before =, and one image after it, without a scheme"
            raise ValueError(f"{text!r} is no VENDOR=IMAGE: {wanted}")
        images[vendor] = image
    return images


@dataclass(frozen=True)
class Platform:
    """Defaults of the platform team. The operator reads them from the chart's values; the CLI takes these."""

    images: Mapping[str, str] = field(default_factory=default_images)
    """Serving image by vendor, for endpoints without `spec.engine.image`."""
    ray_version: str = field(default_factory=lambda: str(versions()["ray"]))
    """What is in those images; KubeRay picks probes and flags by it."""
    kuberay_namespace: str = ""
    """Where KubeRay's operator runs; "": pods that call themselves so may be anywhere."""
    operator_namespace: str = ""
    """Where the operator itself runs; "": as for KubeRay."""
    amd_groups: tuple[int, ...] = (44, 109, 110, 992, 993)
    """Groups that own /dev/kfd and /dev/dri/renderD* on AMD nodes: video is 44, render mostly 109 or 110 on
    Ubuntu 22.04, 992 or 993 on 24.04. A host with other ids needs supplementalGroups in spec.podTemplate.worker."""
