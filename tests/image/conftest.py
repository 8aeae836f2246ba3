"""The images of these tests, each built once: they stand on one another, so the order is that of the fixtures."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cannot_run import cannot_run
from image.builder import BUILD_SECONDS, ROOT, Builder
from localcluster import images

HERE = Path(__file__).parent
TOOLS = ("buildah", "mmdebstrap")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything below this directory builds images; the first test waits for all that it stands on."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.image)
            item.add_marker(pytest.mark.timeout(2 * BUILD_SECONDS))


@pytest.fixture(scope="session")
def builder() -> Iterator[Builder]:
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing or os.geteuid() != 0:
        lack = ", ".join(missing) or "root"
        reason = f"images cannot be built here without {lack}: run `make image-tools` as root on Debian or Ubuntu"
        cannot_run(reason)
    with images.locked():
        images.remove_leftovers()
        try:
            yield Builder()
        finally:
            images.remove_leftovers()


@pytest.fixture(scope="session")
def uv_cache() -> str:
    """The volume that lets builds take from uv's cache of this machine what it has already downloaded."""
    cache = Path(os.environ.get("UV_CACHE_DIR", Path.home() / ".cache" / "uv"))
    cache.mkdir(parents=True, exist_ok=True)
    return f"{cache}:/uv-cache"


@pytest.fixture(scope="session")
def debian(builder: Builder) -> str:
    """Debian from packages, in place of the registry's."""
    images.make_debian()
    return images.DEBIAN


@pytest.fixture(scope="session")
def cpu(builder: Builder, debian: str, uv_cache: str) -> str:
    """Dockerfile.cpu."""
    return builder.build("cpu", ROOT / "Dockerfile.cpu", base=debian, volume=uv_cache)


@pytest.fixture(scope="session")
def sglang_base(builder: Builder, cpu: str) -> str:
    """Has SGLang and torch, but no Ray: what the GPU images are FROM, without a GPU."""
    return builder.build("sglang", HERE / "sglang.Dockerfile", base=cpu)
