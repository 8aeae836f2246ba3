"""What keeps an endpoint of real pods from serving, and the one reason that status gives for each; without a load."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

import pytest
from cluster.actors import GONE_SECONDS, Operator, User, somebody, wait_until
from cluster.causes import FAILED, Cause, crashed, ended, failed_to_start, refused, require_in_time, unplaced
from cluster.endpoints import TINY, engine_of, put_tiny_model, tiny_endpoint
from localcluster.cluster import LocalCluster
from localcluster.images import serving_name
from localcluster.kubectl import Refused

from sglang_operator.cluster.pods import CRASHES

Object = dict[str, Any]
SECONDS = 60  # two busy cores
START_SECONDS = 300
CAPACITY_SECONDS = 60
MOST_OF_THE_NODE = "1100m"  # of its two cores
pytestmark = [pytest.mark.timeout(1800), pytest.mark.long]

EMPTY = "test/empty"  # a directory of the models without a file
ODD = "test/odd"  # of a class that no SGLang has
LATE = "test/late"
TRIES_OF_SERVE = 3
NUMBERS = count()
CLAIM: Object = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "pending"},
    "spec": {
        "storageClassName": "no-such-class",
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": "1Gi"}},
    },
}
QUOTA: Object = {
    "apiVersion": "v1",
    "kind": "ResourceQuota",
    "metadata": {"name": "small"},
    "spec": {"hard": {"pods": 0}},
}
POLICY: Object = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "ValidatingAdmissionPolicy",
    "metadata": {"name": "no-such-pods.test"},
    "spec": {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
            ]
        },
        "validations": [{"expression": "false", "message": "pods of this team need an approval"}],
    },
}


def binding(namespace: str) -> Object:
    """The policy, for the pods of one namespace."""
    selector = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "no-such-pods.test"},
        "spec": {
            "policyName": "no-such-pods.test",
            "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": selector},
        },
    }


@dataclass(frozen=True)
class Case:
    """A change of the tiny endpoint's spec, or something beside it, and what status says then."""

    says: tuple[str, str]
    """Condition and reason."""
    text: str
    cause: Cause | None = None
    """Since when status has to say it within 15 s; None: not measured."""
    change: Object = field(default_factory=dict)
    beside: Callable[[str], tuple[Object, ...]] = lambda _: ()
    seconds: float = SECONDS
    """Until the cause is there, or without one until status says it."""


def with_container(kind: str, script: str, **more: Any) -> Object:
    """endpoint.yaml's patch of the worker, with one more container that runs the script."""
    made: Object = tiny_endpoint()["spec"]["podTemplate"]
    container = {"name": "other", "image": serving_name(), "command": ["sh", "-c", script], **more}
    spec = made["worker"]["spec"]
    spec[kind] = [*spec.get(kind, ()), container]
    return made


def engine_says(reason: str, change: Object) -> Case:
    """What only the replica's log has at first."""
    return Case(("Degraded", "RevisionFailing"), reason, failed_to_start, change, seconds=START_SECONDS)


BLOCKED, FAILING = ("Degraded", "PodsBlocked"), ("Degraded", "RevisionFailing")
LITTLE_MEMORY: Object = {"limits": {"memory": "32Mi"}}
CASES = {
    "no such accelerator": Case(
        ("Progressing", "WaitingForCapacity"),
        "Insufficient nvidia.com/gpu",
        unplaced,
        {"accelerator": {"vendor": "nvidia", "count": 1}, "engine": engine_of({"image": "localhost/absent:1"})},
    ),
    "no such volume": Case(
        BLOCKED, 'persistentvolumeclaim "absent" not found', unplaced, {"model": {"uri": "pvc://absent/model"}}
    ),
    "a volume that nobody makes": Case(
        BLOCKED,
        "unbound immediate PersistentVolumeClaims",
        unplaced,
        {"model": {"uri": "pvc://pending/model"}},
        beside=lambda _: (CLAIM,),
    ),
    "quota": Case(BLOCKED, "exceeded quota", refused, beside=lambda _: (QUOTA,)),
    "policy": Case(
        BLOCKED,
        "pods of this team need an approval",
        refused,
        beside=lambda name: (POLICY, binding(name)),
    ),
    # Beyond the limit of its disk before an engine starts: the kubelet looks every ten seconds.
    "too little disk": Case(
        FAILING,
        "Evicted",
        None,
        {
            "resources": {"cpu": "500m", "memory": "4Gi", "ephemeralStorage": "100Mi"},
            "podTemplate": with_container("initContainers", "head -c 314572800 /dev/zero > /tmp/large && sleep 600"),
        },
        seconds=START_SECONDS,
    ),
    "too little memory": Case(
        FAILING,
        "OOMKilled: container other used more memory than its limit: raise its limit in spec.podTemplate",
        ended("other"),
        {"podTemplate": with_container("containers", "exec tail /dev/zero", resources=LITTLE_MEMORY)},
    ),
    "a container that ends again and again": Case(
        FAILING,
        f"CrashLoop: container other ended {CRASHES} times",
        crashed("other"),
        {"podTemplate": with_container("initContainers", "exit 1", restartPolicy="Always")},
        seconds=START_SECONDS,
    ),
    "a container that nobody starts again": Case(
        FAILING,
        "ContainerEnded: container other ended with exit code 1",
        ended("other"),
        {"podTemplate": with_container("containers", "exit 1")},
    ),
    # A real engine, or what comes before it, ends in a real pod.
    "no such model": engine_says("ModelNotFound", {"model": {"uri": f"hf://{EMPTY}"}}),
    "a model that SGLang does not know": engine_says("UnsupportedArchitecture", {"model": {"uri": f"hf://{ODD}"}}),
    "an argument that the engine refuses": engine_says(
        "BadArgument", {"engine": engine_of({"args": {"context_length": 10_000_000}})}
    ),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture
def user(cluster: LocalCluster, operator: Operator) -> Iterator[User]:
    """Somebody in a namespace of their own."""
    del operator  # it runs
    with somebody(cluster, f"reasons-{next(NUMBERS)}") as made:
        yield made


@pytest.fixture(autouse=True, scope="module")
def models(cluster: LocalCluster) -> Iterator[None]:
    """Those that no engine can serve."""
    empty, odd = cluster.models / EMPTY, cluster.models / ODD
    put_tiny_model(cluster.models)
    empty.mkdir(exist_ok=True)
    shutil.copytree(cluster.models / TINY, odd, dirs_exist_ok=True)
    config = json.loads((odd / "config.json").read_text())
    (odd / "config.json").write_text(json.dumps({**config, "architectures": ["NoSuchForCausalLM"]}))
    yield
    shutil.rmtree(empty)
    shutil.rmtree(odd)


@pytest.fixture
def beside(user: User, case: Case) -> Iterator[None]:
    """What the case has beside the endpoint."""
    objects = case.beside(user.namespace)
    for one in objects:
        user.run("apply", "--filename=-", stdin=json.dumps(one))
    if case.cause is refused:  # a policy takes a moment
        wait_until(lambda: not may_make_pods(user), SECONDS, "the cluster to refuse pods")
    yield
    for one in objects:
        user.run("delete", one["kind"], one["metadata"]["name"], "--wait=false")  # a claim goes after its pods


def may_make_pods(user: User) -> bool:
    try:
        user.run("run", "probe", "--image=localhost/pause:local", "--dry-run=server")
    except Refused:
        return False
    return True


@pytest.mark.usefixtures("beside")
def test_one_failure_one_reason(user: User, case: Case) -> None:
    manifest = tiny_endpoint()
    manifest["spec"] |= {"upgrade": {"drainSeconds": 5}, **case.change}
    user.apply(manifest)
    if case.cause is None:
        found = user.wait_for(case.says[0], "True", case.says[1], case.seconds)
        assert case.text in found["message"]
    else:
        began = wait_until(partial(case.cause, user), case.seconds, lambda: f"the cause: {json.dumps(user.status)}")
        require_in_time(user, began, case.says, case.text)
    assert user.condition("Ready")["status"] == "False"


def test_a_model_that_comes_late_is_served_without_an_edit(user: User, cluster: LocalCluster) -> None:
    """The hub is away: more tries fail than Serve makes by itself. Then the mirror has the model."""
    late = cluster.models / LATE
    shutil.rmtree(late, ignore_errors=True)
    manifest = tiny_endpoint()
    manifest["spec"]["model"] = {"uri": f"hf://{LATE}"}
    user.apply(manifest)
    wait_until(
        lambda: "DownloadFailed" in user.condition("Progressing").get("message", ""), START_SECONDS, "the reason"
    )
    wait_until(lambda: failed_starts(user) > TRIES_OF_SERVE, START_SECONDS, "more tries")
    try:
        shutil.copytree(cluster.models / TINY, late)
        user.wait_for("Ready", "True", seconds=START_SECONDS)
    finally:
        shutil.rmtree(late)


def failed_starts(user: User) -> int:
    log = user.run("logs", "--selector=ray.io/node-type=worker", "--container=ray-worker", "--tail=2000")
    return log.count(FAILED)


def test_a_replica_with_half_of_its_nodes_gives_them_back(user: User) -> None:
    manifest = tiny_endpoint()
    manifest["spec"]["parallelism"] = {"nodes": 2}
    manifest["spec"]["resources"]["cpu"] = MOST_OF_THE_NODE
    # Until it ends a pod in its first steps keeps its node for the whole grace period.
    manifest["spec"]["upgrade"] = {"drainSeconds": 5, "capacityTimeoutSeconds": CAPACITY_SECONDS}
    user.apply(manifest)
    user.wait_for("Progressing", "True", "WaitingForCapacity", SECONDS)
    first = uids(user)
    wait_until(lambda: len(placed(user)) == 1, SECONDS, "one of the two pods to have a node")
    user.wait_for("Progressing", "True", "NoCapacity", 2 * CAPACITY_SECONDS)
    wait_until(lambda: not placed(user), SECONDS, "the node to be free")
    wait_until(lambda: uids(user) - first, GONE_SECONDS, "another try")


def uids(user: User) -> set[str]:
    return {item["metadata"]["uid"] for item in user.read("rayservices")["items"]}


def placed(user: User) -> list[str]:
    """Worker pods with a node."""
    pods = user.read("pods", "--selector=ray.io/node-type=worker")["items"]
    return [pod["metadata"]["name"] for pod in pods if pod["spec"].get("nodeName")]
