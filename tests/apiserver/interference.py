"""What others do to an endpoint: they refuse what it would create, and they edit what it has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from apiserver.kubelet import JSON
from apiserver.passes import until
from apiserver.rollouts import SECONDS, Object, Stage
from apiserver.test_ownership import THEIRS

from sglang_operator.cluster.api import JSON_PATCH, ApiError
from sglang_operator.cluster.metadata import labels_of, name_of
from sglang_operator.cluster.paths import ENDPOINT, POD, RAY_CLUSTER, RAY_SERVICE, Kind
from sglang_operator.cluster.types import Key
from sglang_operator.render import names

Bounds = tuple[int, int]
ADMISSION: Final = "admissionregistration.k8s.io"
POLICIES: Final = Kind("ValidatingAdmissionPolicy", ADMISSION, "v1", "validatingadmissionpolicies")
BINDINGS: Final = Kind("ValidatingAdmissionPolicyBinding", ADMISSION, "v1", "validatingadmissionpolicybindings")
WEBHOOKS: Final = Kind("ValidatingWebhookConfiguration", ADMISSION, "v1", "validatingwebhookconfigurations")
NO_ANSWER: Final = "failed calling webhook"
HOLD: Final = "test.example.com/hold"
SMALLEST: Final[Object] = {"rayClusterConfig": {"headGroupSpec": {"template": {}}}}
GROUP: Final = "workerGroupSpecs/0"


@asynccontextmanager
async def denied(on: Stage, kind: Kind, message: str) -> AsyncIterator[None]:
    """A policy lets nobody create a `kind` in the namespace."""
    name, where = f"{kind.plural}-{on.on.namespace}", _where(on)
    matched = {"resourceRules": [_creation_of(kind)], "namespaceSelector": where}
    policy = {"matchConstraints": matched, "validations": [{"expression": "false", "message": message}]}
    bound = {"policyName": name, "validationActions": ["Deny"]}
    async with _made(on, POLICIES, name, {"spec": policy}), _made(on, BINDINGS, name, {"spec": bound}):
        await _is_refused(on, kind, message)
        yield


@asynccontextmanager
async def unanswered(on: Stage, kind: Kind) -> AsyncIterator[None]:
    """A webhook must be asked before a `kind` is created in the namespace, and there is nobody to answer."""
    service = {"name": "kueue", "namespace": on.on.namespace}
    hook = {"name": "kueue.example.com", "clientConfig": {"service": service}, "rules": [_creation_of(kind)]}
    hook |= {"namespaceSelector": _where(on), "sideEffects": "None", "admissionReviewVersions": ["v1"]}
    async with _made(on, WEBHOOKS, f"kueue-{on.on.namespace}", {"webhooks": [hook]}):
        await _is_refused(on, kind, NO_ANSWER)
        yield


async def limit(on: Stage, what: str, number: int) -> None:
    """A quota of as many of something as there are."""
    path = f"/api/v1/namespaces/{on.on.namespace}/resourcequotas"
    await on.api.create(path, {"metadata": {"name": "few"}, "spec": {"hard": {what: str(number)}}})

    async def counted() -> bool:
        status = (await on.api.get(f"{path}/few")).get("status", {})
        return bool(status.get("used", {}).get(what) == status.get("hard", {}).get(what) == str(number))

    await until(counted, SECONDS)


async def widen(on: Stage, revision: str, *, cluster: bool = True, service: bool = True) -> None:
    """Somebody allows nine worker pods, by hand."""
    found, most = await cluster_of(on, revision), {"op": "replace", "value": 9}
    paths = {RAY_CLUSTER.of(on.on.namespace, name_of(found)): "/spec"} if cluster else {}
    if service:
        paths[RAY_SERVICE.of(on.on.namespace, revision)] = "/spec/rayClusterConfig"
    for path, spec in paths.items():
        await on.api.patch(path, [{**most, "path": f"{spec}/{GROUP}/maxReplicas"}], JSON_PATCH)


async def workers(on: Stage, revision: str) -> tuple[Bounds, Bounds]:
    """Fewest and most worker pods, by the RayService and by its RayCluster."""
    service = await on.api.get(RAY_SERVICE.of(on.on.namespace, revision))
    clusters = service["spec"]["rayClusterConfig"], (await cluster_of(on, revision))["spec"]
    first, second = [
        (group["minReplicas"], group["maxReplicas"]) for one in clusters for group in one["workerGroupSpecs"]
    ]
    return first, second


async def cluster_of(on: Stage, revision: str) -> Object:
    (found,) = await of_revision(on, RAY_CLUSTER, revision)
    return found


async def of_revision(on: Stage, kind: Kind, revision: str) -> list[Object]:
    """What there is of it, also what goes."""
    return [
        one for one in await on.api.list(kind.of(on.on.namespace)) if labels_of(one).get(names.REVISION) == revision
    ]


async def status_of(on: Stage, key: Key) -> Object:
    found: Object = (await on.api.get(ENDPOINT.of(*key))).get("status", {})
    return found


async def gone(on: Stage, revision: str) -> None:
    """Somebody deletes its RayService; what KubeRay made of it has followed when this returns."""
    await on.api.delete(RAY_SERVICE.of(on.on.namespace, revision))

    async def is_gone() -> bool:
        return not [one for kind in (RAY_SERVICE, RAY_CLUSTER, POD) for one in await of_revision(on, kind, revision)]

    await until(is_gone, SECONDS)


async def hold(on: Stage, path: str) -> None:
    """Somebody's finalizer: what is deleted goes, and is not gone."""
    await on.api.patch(path, {"metadata": {"finalizers": [HOLD]}})


async def release(on: Stage, path: str) -> None:
    await on.api.patch(path, {"metadata": {"finalizers": None}})


@asynccontextmanager
async def _made(on: Stage, kind: Kind, name: str, body: Object) -> AsyncIterator[None]:
    """An object of no namespace, for as long."""
    head = {"apiVersion": kind.api_version, "kind": kind.name, "metadata": {"name": name}}
    await on.api.create(kind.of(""), {**head, **body})
    try:
        yield
    finally:
        await on.api.delete(kind.of("", name))


async def _is_refused(on: Stage, kind: Kind, says: str) -> None:
    """The API server goes by it from now on: it learns of policies and webhooks a moment later."""
    path, spec = f"{kind.of(on.on.namespace)}?dryRun=All", {RAY_SERVICE: SMALLEST, **THEIRS}[kind]
    body = {"apiVersion": kind.api_version, "kind": kind.name, "metadata": {"name": "tried"}, "spec": spec}

    async def holds() -> bool:
        try:
            await on.api._write("POST", path, body, JSON)
        except ApiError as error:
            assert says in error.message, error.message  # noqa: PT017 - another refusal would be a wrong body
            return True
        return False

    await until(holds, SECONDS)


def _creation_of(kind: Kind) -> Object:
    return {"apiGroups": [kind.group], "apiVersions": ["*"], "operations": ["CREATE"], "resources": [kind.plural]}


def _where(on: Stage) -> Object:
    return {"matchLabels": {"kubernetes.io/metadata.name": on.on.namespace}}
