"""A cluster with a node on which pods run, one for all tests of this tier."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cannot_run import cannot_run
from cluster.actors import COUNTED, Operator, User, somebody
from cluster.endpoints import administered, tag_again, tiny_endpoint
from localcluster import Missing, tools
from localcluster.cluster import LocalCluster

from sglang_serve.local.ports import free_port

HERE = Path(__file__).parent
OPEN: list[LocalCluster] = []
NODES = 2  # replicas spread over them
BUILD_SECONDS = 3600  # programs and images from source on a slow machine; a minute or two when they are in the cache


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything below this directory needs the cluster; the first test waits until it is built."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.timeout(BUILD_SECONDS))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was lost under load, of how many requests."""
    if COUNTED:
        terminalreporter.section("requests lost")
        for line in COUNTED:
            terminalreporter.write_line(line)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    """It ends with the last test of this tier, as the control plane of tests/apiserver does."""
    if not (nextitem and nextitem.path.is_relative_to(HERE)):
        for cluster in OPEN:
            cluster.close()


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
            made = LocalCluster(tools.cache() / "tests", nodes=NODES)
            made.close()
            with made:
                OPEN.append(made)
                yield made
        except Missing as missing:
            reason = f"no pods can run here: {missing}"
            cannot_run(reason)


@pytest.fixture(scope="module")
def operator(cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """The operator as a process of this machine, so that a test can kill it."""
    made = Operator(cluster.control_plane.kubeconfig, tmp_path_factory.mktemp("operator") / "log", free_port())
    made.start()
    yield made
    made.end()
    print(made.log.read_text()[-20_000:])


@pytest.fixture(scope="module")
def endpoint(cluster: LocalCluster, operator: Operator, request: pytest.FixtureRequest) -> Iterator[User]:
    """An endpoint with the tiny model, in a namespace of its own."""
    with somebody(cluster, request.node.path.stem.replace("test_", "").replace("_", "-")) as user:
        user.make_admin_key()
        user.apply(administered(tiny_endpoint()))
        yield user


@pytest.fixture(scope="module")
def serving(endpoint: User) -> User:
    """The endpoint, answering."""
    endpoint.wait_for("Ready", "True", seconds=900)
    return endpoint


@pytest.fixture
def another_image(cluster: LocalCluster) -> str:
    """The serving image under another name, on every node."""
    return tag_again(cluster)
