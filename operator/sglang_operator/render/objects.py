"""All objects of one endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from sglang_operator.api import Endpoint
from sglang_operator.api.spec_peers import Peer
from sglang_operator.render import context, names
from sglang_operator.render.platform import Platform
from sglang_operator.render.pod_template import patch_pod
from sglang_operator.render.serve_config import serve_config
from sglang_operator.render.templating import render_template

NAMESPACE_NAME: Final = "kubernetes.io/metadata.name"  # the API server gives it to every namespace
Object = dict[str, Any]


def render_endpoint(endpoint: Endpoint, platform: Platform | None = None) -> tuple[Object, ...]:
    """Every object that serves `endpoint`, in the order of `kubectl apply`. The same input gives the same bytes.

    Raises InvalidEndpoint if `spec.podTemplate` does not fit the rendered pod template.
    """
    return tuple(_objects(endpoint, platform or Platform()))


def _objects(endpoint: Endpoint, platform: Platform) -> Iterator[Object]:
    api, cache = endpoint.spec.api, endpoint.spec.model.cache
    of = context.endpoint_names(endpoint)
    access = context.Access(names=of, api=api)
    if cache and not cache.claim_name:
        claim = context.CacheClaim(names=of, name=names.cache_claim(endpoint.name), cache=cache)
        yield render_template("persistentvolumeclaim.yaml.j2", claim)
    # Before the pods, which are then never open to everybody.
    yield render_template("networkpolicy.yaml.j2", _network(endpoint, platform, of))
    yield _ray_service(endpoint, platform, of)
    yield render_template("service.yaml.j2", access)
    # With a single replica a budget could only forbid every drain of its node. Kubernetes takes no share of a number
    # that changes, so of autoscaled replicas the fewest are protected.
    if endpoint.spec.fewest > 1:
        # Of a replica on several nodes one pod is Ready, and the others are as needed.
        unready = "IfHealthyBudget" if endpoint.spec.parallelism.nodes > 1 else "AlwaysAllow"
        budget = context.Budget(names=of, min_available=endpoint.spec.fewest - 1, unready=unready)
        yield render_template("poddisruptionbudget.yaml.j2", budget)
    if api.ingress:
        yield render_template("ingress.yaml.j2", access)
    if api.route:
        yield render_template("httproute.yaml.j2", access)


def _network(endpoint: Endpoint, platform: Platform, of: context.Names) -> context.Network:
    return context.Network(
        names=of,
        pods={names.ENDPOINT: endpoint.name},
        kuberay_namespaces=_there_or_anywhere(platform.kuberay_namespace),
        operator_namespaces=_there_or_anywhere(platform.operator_namespace),
        clients=tuple(map(_peer, endpoint.spec.api.allow_from or ())),
    )


def _peer(peer: Peer) -> Object:
    """Without what is empty: the API server leaves it out, and the policy would differ from the live one for ever."""
    parts = peer.model_dump(mode="json", by_alias=True)
    return {name: _filled(part) for name, part in parts.items()}


def _filled(part: Any) -> Any:
    if isinstance(part, list):
        return [_filled(item) for item in part]
    if isinstance(part, dict):
        return {key: _filled(value) for key, value in part.items() if value not in ({}, [])}
    return part


def _there_or_anywhere(namespace: str) -> Object:
    return {"matchLabels": {NAMESPACE_NAME: namespace}} if namespace else {}


def _ray_service(endpoint: Endpoint, platform: Platform, of: context.Names) -> Object:
    patch, queue = endpoint.spec.pod_template, endpoint.spec.scheduling.queue_name
    head, worker = context.head_pod(endpoint, platform, of), context.worker_pod(endpoint, platform, of)
    return render_template(
        "rayservice.yaml.j2",
        context.RayService(
            names=of,
            labels=_revision_labels(of, queue),
            queue=queue,
            ray_version=platform.ray_version,
            serve_config=serve_config(endpoint, of.revision),
            redis=endpoint.spec.high_availability.redis,
            head=head,
            worker=worker,
            head_template=patch_pod(render_template("head-pod.yaml.j2", head), patch.head, "head"),
            worker_template=patch_pod(render_template("worker-pod.yaml.j2", worker), patch.worker, "worker"),
        ),
    )


def _revision_labels(of: context.Names, queue: str) -> dict[str, str]:
    labels = {**of.labels, names.REVISION: of.revision}
    return {**labels, names.QUEUE: queue} if queue else labels
