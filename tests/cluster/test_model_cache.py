"""A model from a hub, on a volume of several pods: one download, and a branch that stays what it was at first."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from cluster.actors import Operator, User, load, somebody, wait_until
from cluster.endpoints import GREEDY, TINY, administered, tiny_endpoint
from engine.hub_server import REPOSITORY, Hub, running, slow
from localcluster.cluster import LocalCluster

FIRST, SECOND = "1" * 40, "2" * 40
WEIGHTS = "model.safetensors"
PIECES, PIECE_SECONDS = 16, 2.0  # of a download that is seen in status
VOLUME = "models"
pytestmark = [pytest.mark.timeout(1800), pytest.mark.long]


@pytest.fixture(scope="module")
def hub(cluster: LocalCluster) -> Iterator[Hub]:
    """It is slow with the weights."""
    with running(Hub(spoil=slow(WEIGHTS, PIECES, PIECE_SECONDS)), cluster.host) as hub:
        yield hub


@pytest.fixture(scope="module")
def loading(
    cluster: LocalCluster, operator: Operator, hub: Hub, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[User]:
    """An endpoint of two replicas, whose pods have to fetch the tiny model."""
    del operator  # it runs
    directory = tmp_path_factory.mktemp("volume")
    directory.chmod(0o777)  # pods are another user
    with somebody(cluster, "model-cache") as user:
        hub.push(FIRST, {file.name: file.read_bytes() for file in (cluster.models / TINY).iterdir()})
        user.run("apply", "--filename=-", stdin=json.dumps(volume(user.namespace, directory)))
        user.make_admin_key()
        user.apply(endpoint(hub.url))
        yield user
    cluster.control_plane.kubectl("delete", "persistentvolume", user.namespace, "--wait=false")


def volume(name: str, directory: Path) -> dict[str, Any]:
    """A directory of the machine, which pods of every node find, and a claim to it."""
    size = {"storage": "1Gi"}
    common = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    made = {**common, "hostPath": {"path": str(directory)}, "capacity": size}
    claim = {**common, "volumeName": name, "resources": {"requests": size}}
    objects = [
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": made},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": VOLUME}, "spec": claim},
    ]
    return {"apiVersion": "v1", "kind": "List", "items": objects}


def endpoint(hub_url: str) -> dict[str, Any]:
    """The tiny endpoint without the mirror that the others have."""
    made = administered(tiny_endpoint())
    made["spec"] |= {"replicas": 2, "engine": asking(hub_url)}
    made["spec"]["model"] = {"uri": f"hf://{REPOSITORY}", "cache": {"claimName": VOLUME}}
    del made["spec"]["podTemplate"]
    return made


def asking(hub_url: str, color: str = "blue") -> dict[str, Any]:
    """spec.engine; another color is another revision."""
    return {"env": [{"name": "HF_ENDPOINT", "value": hub_url}, {"name": "COLOR", "value": color}]}


def test_two_pods_download_it_once_and_status_says_how_far(loading: User, hub: Hub) -> None:
    wait_until(
        lambda: "downloading" in loading.status.get("updating", {}).get("progress", ""),
        300,
        lambda: f"a download in {json.dumps(loading.status, indent=1)}",
    )
    loading.wait_for("Ready", "True", seconds=600)
    wait_until(lambda: loading.status["readyReplicas"] == 2, 300, "both replicas")
    assert hub.count("GET", WEIGHTS) == 1
    assert loading.status["serving"]["modelCommit"] == FIRST


def test_a_new_pod_takes_it_from_the_volume_though_the_branch_has_moved(loading: User, hub: Hub) -> None:
    hub.push(SECOND, hub.commits[FIRST])
    before = loading.workers()
    loading.run("delete", "pod", before[0], "--force", "--grace-period=0")
    wait_until(lambda: len(loading.workers()) == 2 and loading.workers() != before, 300, "another pod")
    wait_until(lambda: loading.status["readyReplicas"] == 2, 300, lambda: json.dumps(loading.status, indent=1))
    assert hub.count("GET", WEIGHTS) == 1
    assert loading.status["serving"]["modelCommit"] == FIRST
    reply = httpx.post(f"{loading.url()}/v1/completions", json=GREEDY, timeout=120)
    assert reply.status_code == 200, reply.text


def test_a_new_revision_has_the_branch_of_its_time_and_telling_it_loses_nothing(loading: User, hub: Hub) -> None:
    loading.run("scale", "sgl", loading.name, "--replicas=1")
    wait_until(lambda: len(loading.workers()) == 1, 600, "room for another revision")
    before = loading.serving
    loading.slow_down()
    with load(loading.url()) as working:
        with working.event():
            loading.edit("engine", asking(hub.url, "green"))
            loading.wait_for_switch(before)
            wait_until(lambda: told(loading) == SECOND, 60, lambda: json.dumps(loading.status, indent=1))
        loading.wait_for_rollout(before)
    assert working.count.lost == [], str(working.count)
    assert loading.status["serving"]["modelCommit"] == SECOND


def told(user: User) -> str:
    """The commit that the RayService of the serving revision has for its replicas."""
    config = yaml.safe_load(user.read("rayservice", user.serving)["spec"]["serveConfigV2"])
    (deployment,) = config["applications"][0]["deployments"]
    return str(deployment["user_config"]["model_commit"])
