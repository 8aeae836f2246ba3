"""What the templates see as `c`: small frozen values, everything decided. A template only says where each goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sglang_operator.api import Endpoint
from sglang_operator.api.spec_api import Api
from sglang_operator.api.spec_availability import Redis
from sglang_operator.api.spec_model import Cache
from sglang_operator.render import names
from sglang_operator.render.environment import env_list, head_environment, worker_environment
from sglang_operator.render.platform import Platform
from sglang_operator.render.quantity import object_store_bytes
from sglang_operator.render.revision import revision_name
from sglang_operator.render.serve_config import graceful_shutdown_seconds
from sglang_operator.render.shape import DEVICES, shape_of
from sglang_operator.render.volumes import Volume, head_volumes, worker_volumes

HEAD_SHARED_MEMORY = "1Gi"
KILL_SECONDS = 60
"""What ending a pod takes after its replica is gone: the raylet, HAProxy, the kubelet."""

# Set by the device plugins' companions (GPU feature discovery, node labeller) and by managed node pools.
ACCELERATOR_NODE_LABELS = (
    "nvidia.com/gpu.present",
    "nvidia.com/gpu.product",
    "amd.com/gpu.product-name",
    "amd.com/gpu.device-id",  # AMD's Helm chart has its node labeller set no product
    "feature.node.kubernetes.io/amd-gpu",
    "feature.node.kubernetes.io/amd-vgpu",
    "cloud.google.com/gke-accelerator",
)
_SPREAD_KEY = {"None": "", "Node": "kubernetes.io/hostname", "Zone": "topology.kubernetes.io/zone"}
_PRODUCT_LABEL = {"nvidia": "nvidia.com/gpu.product", "amd": "amd.com/gpu.product-name", "cpu": ""}


@dataclass(frozen=True)
class Names:
    """Who an object belongs to."""

    endpoint: str
    namespace: str
    revision: str
    labels: Mapping[str, str]
    """Of every object; what outlives a revision does not carry its name."""
    pod_labels: Mapping[str, str]
    """Of the pods of this revision, head included."""
    serving_labels: Mapping[str, str]
    """Selects the pods of this revision that answer: its workers, and a head that holds requests at zero."""
    serve_port: int = names.SERVE_PORT
    agent_port: int = names.AGENT_PORT
    dashboard_port: int = names.DASHBOARD_PORT
    metrics_port: int = names.METRICS_PORT
    engine_metrics_port: int = names.ENGINE_METRICS_PORT
    proxy_metrics_port: int = names.PROXY_METRICS_PORT
    autoscaler_script: str = names.AUTOSCALER_SCRIPT


@dataclass(frozen=True)
class Pods:
    """What head and workers have in common."""

    image: str
    image_pull_secrets: tuple[str, ...]
    priority_class: str


@dataclass(frozen=True)
class HeadPod:
    """Context of head-pod.yaml.j2: Ray's control plane and the autoscaler, and no replica."""

    names: Names
    pods: Pods
    cpu: str
    memory: str
    shared_memory: str
    object_store_bytes: int
    env: list[dict[str, Any]]
    volumes: tuple[Volume, ...]
    serves: bool
    """It holds requests at zero replicas, by an HAProxy of its own: in the Service while KubeRay finds that healthy."""
    drain_seconds: int
    """How long preStop may wait for workers that drain: until their pods are gone."""
    grace_seconds: int
    """How long the kubelet waits for preStop and the rest."""
    accelerator_labels: tuple[str, ...] = ACCELERATOR_NODE_LABELS
    """A head never takes a node that has one of these: it would keep an accelerator's cores and memory busy."""


@dataclass(frozen=True)
class WorkerPod:
    """Context of worker-pod.yaml.j2: one replica, or its part on one node."""

    names: Names
    pods: Pods
    count: int
    """Pods at first: of each replica one on each of its nodes."""
    fewest: int
    most: int
    cores: int
    """What Ray schedules by."""
    gpus: int
    """What Ray schedules by; 0 with vendor cpu."""
    resources: Mapping[str, str]
    """Requests and limits alike (QoS class Guaranteed), the accelerators included."""
    shared_memory: str
    object_store_bytes: int
    env: list[dict[str, Any]]
    env_secret: str
    """Secret whose every entry is a variable, "" for none; `env` wins over it."""
    volumes: tuple[Volume, ...]
    service_account: str
    supplemental_groups: tuple[int, ...]
    node_selector: Mapping[str, str]
    tolerations: tuple[Mapping[str, Any], ...]
    product_label: str
    products: tuple[str, ...]
    spread_key: str
    """Label of the nodes over which pods are spread, "" for none."""
    spread_labels: Mapping[str, str]
    """Selects the pods that are spread."""
    drain_seconds: int
    """How long preStop may wait for the replica to be gone."""
    grace_seconds: int
    """How long the kubelet waits for preStop and the rest."""


@dataclass(frozen=True)
class RayService:
    """Context of rayservice.yaml.j2."""

    names: Names
    labels: Mapping[str, str]
    queue: str
    """Kueue LocalQueue, "" for none."""
    ray_version: str
    serve_config: str
    redis: Redis | None
    """Where Ray's control store is kept, None for the memory of the head."""
    head: HeadPod
    worker: WorkerPod
    head_template: Mapping[str, Any]
    worker_template: Mapping[str, Any]


@dataclass(frozen=True)
class Access:
    """Context of service.yaml.j2, ingress.yaml.j2 and httproute.yaml.j2."""

    names: Names
    api: Api


@dataclass(frozen=True)
class Network:
    """Context of networkpolicy.yaml.j2."""

    names: Names
    pods: Mapping[str, str]
    """Selects every pod of the endpoint, whatever its revision."""
    kuberay_namespaces: Mapping[str, Any]
    """Selects where KubeRay may be."""
    operator_namespaces: Mapping[str, Any]
    """Selects where the operator may be."""
    clients: tuple[Mapping[str, Any], ...]
    """Peers that may reach the API, beside those who must; () is everybody."""


@dataclass(frozen=True)
class Budget:
    """Context of poddisruptionbudget.yaml.j2."""

    names: Names
    min_available: int
    unready: str
    """When a pod that is not Ready may be evicted: unhealthyPodEvictionPolicy."""


@dataclass(frozen=True)
class CacheClaim:
    """Context of persistentvolumeclaim.yaml.j2."""

    names: Names
    name: str
    cache: Cache


def endpoint_names(endpoint: Endpoint) -> Names:
    """Names and labels of everything that is rendered for one endpoint."""
    revision = revision_name(endpoint)
    pod_labels = {names.ENDPOINT: endpoint.name, names.REVISION: revision}
    return Names(
        endpoint=endpoint.name,
        namespace=endpoint.namespace,
        revision=revision,
        labels={names.MANAGED_BY: names.MANAGER, names.ENDPOINT: endpoint.name},
        pod_labels=pod_labels,
        serving_labels={**pod_labels, names.RAY_SERVE: "true"},
    )


def head_pod(endpoint: Endpoint, platform: Platform, of: Names) -> HeadPod:
    """Everything that head-pod.yaml.j2 needs."""
    return HeadPod(
        names=of,
        pods=_pods(endpoint, platform),
        cpu=endpoint.spec.head.cpu,
        memory=endpoint.spec.head.memory,
        shared_memory=HEAD_SHARED_MEMORY,
        object_store_bytes=object_store_bytes(HEAD_SHARED_MEMORY),
        env=env_list(head_environment(endpoint)),
        volumes=head_volumes(endpoint),
        serves=endpoint.spec.holds_requests,
        drain_seconds=graceful_shutdown_seconds(endpoint) + KILL_SECONDS,
        grace_seconds=graceful_shutdown_seconds(endpoint) + 2 * KILL_SECONDS,
    )


def worker_pod(endpoint: Endpoint, platform: Platform, of: Names) -> WorkerPod:
    """Everything that worker-pod.yaml.j2 needs."""
    spec, vendor, shape = endpoint.spec, endpoint.spec.accelerator.vendor, shape_of(endpoint)
    return WorkerPod(
        names=of,
        pods=_pods(endpoint, platform),
        count=shape.workers(max(spec.fewest, 1) if spec.scaling else spec.replicas),
        fewest=shape.workers(spec.fewest),
        most=shape.workers(spec.most),
        cores=shape.cores,
        gpus=shape.devices,
        resources=_resources(endpoint),
        shared_memory=spec.resources.shared_memory,
        object_store_bytes=object_store_bytes(spec.resources.shared_memory),
        env=env_list(worker_environment(endpoint)),
        env_secret=spec.model.storage_secret.name if spec.model.storage_secret else "",
        volumes=worker_volumes(endpoint),
        service_account=spec.service_account_name,
        supplemental_groups=platform.amd_groups if vendor == "amd" else (),
        node_selector=spec.scheduling.node_selector,
        tolerations=_tolerations(endpoint),
        product_label=_PRODUCT_LABEL[vendor],
        products=spec.accelerator.products,
        spread_key=_SPREAD_KEY[spec.high_availability.spread],
        spread_labels={**of.pod_labels, names.RAY_NODE_TYPE: "worker"},
        drain_seconds=graceful_shutdown_seconds(endpoint),
        grace_seconds=graceful_shutdown_seconds(endpoint) + KILL_SECONDS,
    )


def _pods(endpoint: Endpoint, platform: Platform) -> Pods:
    spec = endpoint.spec
    return Pods(
        image=spec.engine.image or platform.images[spec.accelerator.vendor],
        image_pull_secrets=tuple(secret.name for secret in spec.engine.image_pull_secrets),
        priority_class=spec.scheduling.priority_class_name,
    )


def _resources(endpoint: Endpoint) -> dict[str, str]:
    resources, accelerator = endpoint.spec.resources, endpoint.spec.accelerator
    wanted = {"cpu": resources.cpu, "memory": resources.memory, "ephemeral-storage": resources.ephemeral_storage}
    device = shape_of(endpoint).resource_name
    devices = {device: str(accelerator.count)} if device else {}
    rdma = endpoint.spec.network.rdma
    return {**wanted, **devices, **({rdma.resource_name: str(rdma.count)} if rdma else {})}


def _tolerations(endpoint: Endpoint) -> tuple[Mapping[str, Any], ...]:
    """The vendor's usual taint, and the user's own."""
    device = DEVICES[endpoint.spec.accelerator.vendor]
    of_vendor = ({"key": device, "operator": "Exists", "effect": "NoSchedule"},) if device else ()
    return of_vendor + tuple(
        {key: value for key, value in toleration.model_dump(by_alias=True).items() if value not in ("", None)}
        for toleration in endpoint.spec.scheduling.tolerations
    )
