"""The operator as the chart runs it, in two pods: the leader's is deleted by force, again and again, in an upgrade."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import helm
import pytest
from cluster.actors import User, load, somebody, wait_until
from cluster.endpoints import administered, colored, tiny_endpoint
from localcluster.cluster import LocalCluster

CHART = Path(__file__).parents[2] / "charts" / "sglang-operator"
RELEASE = "sglang-operator"
LEASE = "lease", RELEASE
DELETIONS = 3
TAKEOVER_SECONDS = 60  # 20 by the times of the Lease; two busy cores
pytestmark = [pytest.mark.timeout(1800), pytest.mark.long]


@pytest.fixture(scope="module")
def user(cluster: LocalCluster) -> Iterator[User]:
    """Somebody in a namespace of their own."""
    with somebody(cluster, "leader") as made:
        yield made


@pytest.fixture(scope="module")
def operators(cluster: LocalCluster, user: User, tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """Whoever looks at the chart's two pods, which serve the namespace of `user` alone."""
    namespace = f"{user.namespace}-system"
    cluster.control_plane.make_namespace(namespace)
    where = f"--namespace={namespace}"
    values = helm.set_values(
        tmp_path_factory.mktemp("chart") / "values.yaml",
        {"watchNamespaces": [user.namespace], "crds": {"install": False}},
    )
    kubeconfig = cluster.control_plane.kubeconfig
    helm.run(helm.VERSIONS[0], "install", RELEASE, str(CHART), *values, where, kubeconfig=kubeconfig)
    yield User(cluster.control_plane.kubectl, namespace)
    helm.run(helm.VERSIONS[0], "uninstall", RELEASE, where, kubeconfig=kubeconfig)
    cluster.control_plane.kubectl("delete", "namespace", namespace, "--wait=false")


def test_the_next_one_finishes_the_rollout_and_nothing_is_lost(user: User, operators: User) -> None:
    user.make_admin_key()
    user.apply(administered(tiny_endpoint()))
    user.wait_for("Ready", "True", seconds=900)
    before = user.serving
    user.slow_down()
    with load(user.url()) as working:
        with working.event():
            user.edit("engine", colored("green"))
            led = [delete_the_leader(operators) for _ in range(DELETIONS)]
            assert user.serving == before, "the leaders were deleted too late to matter"
            user.wait_for_switch(before)
        user.wait_for_rollout(before)
    assert working.count.lost == [], str(working.count)
    assert len(set(led)) == DELETIONS


def delete_the_leader(operators: User) -> str:
    """By force, as of a node that is gone; waits until another pod leads. Returns who did."""
    gone = leader(operators)
    operators.run("delete", "pod", gone, "--force", "--grace-period=0")
    wait_until(lambda: leader(operators) not in ("", gone), TAKEOVER_SECONDS, f"somebody to lead after {gone}")
    return gone


def leader(operators: User) -> str:
    """Name of its pod."""
    return str(operators.read(*LEASE)["spec"].get("holderIdentity", ""))
