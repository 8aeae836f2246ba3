"""Deletion of an endpoint whose Ray cluster keeps its state in Redis: KubeRay's to do, so it waits for KubeRay.

Nothing runs here, and no Redis is there: tests/cluster/test_head_failure.py has both.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml
from apiserver.test_in_time import START_SECONDS, operator
from apiserver.test_real_process import QUIET_SECONDS, SMOLLM2
from waiting import wait_until

from sglang_operator.cluster.metadata import is_terminating, name_of

if TYPE_CHECKING:
    from localcluster import ControlPlane

__all__ = ["operator"]
FINALIZER: Final = "ray.io/gcs-ft-redis-cleanup-finalizer"
REDIS: Final = {"highAvailability": {"redis": {"address": "redis.example:6379"}}}
Object = dict[str, Any]


@pytest.fixture
def cluster(control_plane: ControlPlane, namespace: str) -> Iterator[str]:
    """A RayCluster with its pods; nobody but this test lets go of it, as there is no Redis to be emptied."""
    manifest = yaml.safe_load(SMOLLM2.read_text(encoding="utf-8"))
    spec = {**manifest["spec"], **REDIS}
    control_plane.kubectl.apply([{**manifest, "metadata": {"name": "e", "namespace": namespace}, "spec": spec}])
    wait_until(lambda: len(found(control_plane, namespace, "pods")) == 2, START_SECONDS, "head and worker")
    (made,) = found(control_plane, namespace, "rayclusters")
    yield name_of(made)
    patch = '--patch=[{"op": "remove", "path": "/metadata/finalizers"}]'
    control_plane.kubectl("patch", "raycluster", name_of(made), f"-n{namespace}", "--type=json", patch)


@pytest.mark.usefixtures("operator")
def test_without_kuberay_pods_stay_and_with_it_they_go_and_its_job_comes(
    control_plane: ControlPlane, namespace: str, cluster: str
) -> None:
    pods = found(control_plane, namespace, "pods")
    control_plane.kill("ray-operator")
    try:
        control_plane.kubectl("delete", "sglangendpoint", "e", f"-n{namespace}")
        wait_until(lambda: deleted(control_plane, namespace), START_SECONDS, "the RayCluster to be deleted")
        time.sleep(QUIET_SECONDS)  # there is no sign of what the garbage collector does not do
        assert FINALIZER in deleted(control_plane, namespace)[0]["metadata"]["finalizers"]
        left = found(control_plane, namespace, "pods")
        assert {name_of(pod): is_terminating(pod) for pod in left} == {name_of(pod): False for pod in pods}
        assert not found(control_plane, namespace, "jobs")
    finally:
        control_plane.start("ray-operator")
    job = wait_until(lambda: found(control_plane, namespace, "jobs"), START_SECONDS, "KubeRay's job")
    assert [name_of(one) for one in job] == [f"{cluster}-redis-cleanup"]
    names = {name_of(pod) for pod in found(control_plane, namespace, "pods")}
    assert not names & {name_of(pod) for pod in pods}, "they go before Redis is emptied"


def found(plane: ControlPlane, namespace: str, kind: str) -> list[Object]:
    return plane.kubectl.objects(kind, f"-n{namespace}")


def deleted(plane: ControlPlane, namespace: str) -> list[Object]:
    """RayClusters that are on their way out."""
    return [one for one in found(plane, namespace, "rayclusters") if is_terminating(one)]
