"""A cluster with a node on which pods run, one for all tests of this tier."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from localcluster import Missing, tools
from localcluster.cluster import LocalCluster

HERE = Path(__file__).parent
BUILD_SECONDS = 3600  # programs and images from source on a slow machine; a minute or two when they are in the cache


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything below this directory needs the cluster; the first test waits until it is built."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.timeout(BUILD_SECONDS))


@pytest.fixture(scope="session")
def cluster() -> Iterator[LocalCluster]:
    """In a directory that stays the same, so that what a killed run has left is removed by the next one.

    With SGLANG_TEST_CLUSTER=kept the one of `make cluster`, as it is, images included.
    """
    if os.environ.get("SGLANG_TEST_CLUSTER") == "kept":
        yield LocalCluster(tools.cache() / "run", outlives=True)
        return
    tools.cache().mkdir(parents=True, exist_ok=True)
    with (tools.cache() / ".tests").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            made = LocalCluster(tools.cache() / "tests")
            made.close()
            with made:
                yield made
        except Missing as missing:
            reason = f"no pods can run here: {missing}"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)
