"""All objects of one endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sglang_operator.api import Endpoint
from sglang_operator.render import context, names
from sglang_operator.render.platform import Platform
from sglang_operator.render.serve_config import serve_config
from sglang_operator.render.templating import render_template


def render_endpoint(endpoint: Endpoint, platform: Platform | None = None) -> tuple[dict[str, Any], ...]:
    """Every object that serves `endpoint`, in the order of `kubectl apply`. The same input gives the same bytes.

    Raises InvalidEndpoint if `spec.podTemplate` does not fit the rendered pod template.
    """
    return tuple(_objects(endpoint, platform or Platform()))


def _objects(endpoint: Endpoint, platform: Platform) -> Iterator[dict[str, Any]]:
    yield _ray_service(endpoint, platform)


def _ray_service(endpoint: Endpoint, platform: Platform) -> dict[str, Any]:
    of, queue = context.endpoint_names(endpoint), endpoint.spec.scheduling.queue_name
    head, worker = context.head_pod(endpoint, platform), context.worker_pod(endpoint, platform)
    return render_template(
        "rayservice.yaml.j2",
        context.RayService(
            names=of,
            labels={**of.labels, names.QUEUE: queue} if queue else of.labels,
            ray_version=platform.ray_version,
            serve_config=serve_config(endpoint),
            head=head,
            worker=worker,
            head_template=render_template("head-pod.yaml.j2", head),
            worker_template=render_template("worker-pod.yaml.j2", worker),
        ),
    )
