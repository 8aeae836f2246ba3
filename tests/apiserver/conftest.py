"""A real API server with real KubeRay, one for all tests of this tier; each test in a namespace of its own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from cannot_run import cannot_run
from localcluster import ControlPlane, Missing

__all__ = ["ControlPlane"]  # for the annotations of tests
HERE = Path(__file__).parent
OPEN: list[ControlPlane] = []
BUILD_SECONDS = 1800  # a first build from source on a slow machine; seconds when it is in the cache


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything below this directory needs the control plane; the first test waits until it is built."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.apiserver)
            item.add_marker(pytest.mark.timeout(BUILD_SECONDS))


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    """It ends with the last test of this tier: what it takes while idle is missed by the engines of the next ones."""
    if not (nextitem and nextitem.path.is_relative_to(HERE)):
        for plane in OPEN:
            plane.close()


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    plane = ControlPlane(tmp_path_factory.mktemp("control-plane"))
    try:
        plane.open()
        OPEN.append(plane)
        yield plane
    except Missing as missing:
        reason = f"no API server can be started here: {missing}"
        cannot_run(reason)
    finally:
        plane.close()


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Iterator[str]:
    """A fresh namespace with its service account; it goes in the background."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    control_plane.make_namespace(name)
    yield name
    control_plane.kubectl("delete", "namespace", name, "--wait=false")
