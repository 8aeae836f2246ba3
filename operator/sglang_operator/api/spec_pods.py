"""The pods of one replica: accelerators, parallelism, host resources, scheduling, and patches over all of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sglang_operator.api.base import (
    QUALIFIED_NAME,
    RESOURCE_NAME,
    AnyJson,
    Frozen,
    Items,
    Labels,
    LabelValue,
    Model,
    OptionalName,
    Quantity,
    computed,
    items,
    text,
)

Ranks = Annotated[int, Field(ge=1, le=64)]


class Accelerator(Model):
    """Which accelerators a replica gets, and how many."""

    vendor: Literal["nvidia", "amd", "cpu"] = Field(
        default="nvidia",
        description="[R] Selects image, resource name, environment and tolerations. Default nvidia. amd: for an image "
        "built FROM SGLang's for ROCm; not yet run on hardware by the project, which has made no such build either. "
        "cpu: laptops and tests; requests no device.",
    )
    count: Ranks = Field(
        default=1,
        description="[R] Accelerators on each node of one replica, which is one node unless parallelism.nodes says "
        "more. Default 1. With vendor cpu: number of engine processes; the cores they may use are spec.resources.cpu.",
    )
    products: Items[LabelValue] = items(
        "[R] Accept nodes with any of these accelerator products, as GPU feature discovery (NVIDIA) or the node "
        "labeller (AMD) labels them, for example NVIDIA-H100-80GB-HBM3; elsewhere use spec.scheduling.nodeSelector. "
        "Default: any product.",
        unique=True,
        max_length=16,
    )
    resource_name: Annotated[str, text(RESOURCE_NAME, 317, optional=True)] = Field(
        default="",
        description="[R] Extended resource to request instead of the vendor's, for example nvidia.com/mig-1g.10gb. "
        "MIG has not been run by the project; a pod can use one slice. Default: empty, nvidia.com/gpu or "
        "amd.com/gpu.",
    )


class Parallelism(Model):
    """How the accelerators of a replica share one model: tensor * pipeline * data = accelerator.count * nodes."""

    tensor: Ranks = computed(
        "[R] Ranks that split every layer (SGLang's tp_size). Default: accelerator.count * nodes / (pipeline * data)."
    )
    pipeline: Ranks = Field(
        default=1, description="[R] Groups of layers, one after the other (SGLang's pp_size). Default 1."
    )
    data: Ranks = Field(
        default=1,
        description="[R] Copies of the model inside one replica that share its HTTP server (SGLang's dp_size), on one "
        "node. Default 1. For independent copies use spec.replicas.",
    )
    attention_data: Ranks = Field(
        default=1,
        description="[R] Groups inside tensor whose attention works on requests of their own (SGLang's attn_dp_size). "
        "Adds no accelerator. Default 1. More: run by the project on two NVIDIA GPUs of one node.",
    )
    expert: Ranks = Field(
        default=1,
        description="[R] Ranks inside tensor over which the experts of a mixture-of-experts model are spread (SGLang's "
        "ep_size). Adds no accelerator. Default 1. More: run by the project on two NVIDIA GPUs of one node.",
    )
    nodes: Annotated[int, Field(ge=1, le=16)] = Field(
        default=1,
        description="[R] Nodes of one replica: as many worker pods, each with accelerator.count accelerators. They "
        "start and end together. Default 1. Several: run on CPU, not yet run on hardware by the project.",
    )


class Resources(Model):
    """Host resources of each worker pod, requested and limited alike. Defaults are per accelerator.count."""

    cpu: Quantity = computed("[R] CPU cores. Default: 8 per accelerator; with vendor cpu 2 per rank.")
    memory: Quantity = computed(
        "[R] Host memory in bytes, shared memory included. Default: 64Gi per accelerator; with vendor cpu 6Gi per "
        "rank, enough for a model of up to 1 GiB."
    )
    shared_memory: Quantity = computed("[R] Size of /dev/shm in bytes. Default 16Gi; with vendor cpu 1Gi.")
    ephemeral_storage: Quantity = computed(
        "[R] Node-local disk in bytes for logs and, without spec.model.cache, the downloaded model. Default 50Gi; with "
        "vendor cpu 10Gi. It does not grow with accelerator.count: without a cache make it the size of the model and "
        "20Gi more, or the kubelet evicts the pod."
    )


class Head(Model):
    """Host resources of the Ray head pod, which runs no engine and never lands on accelerator nodes."""

    cpu: Quantity = Field(default="1", description="[R] CPU cores. Default 1.")
    memory: Quantity = Field(default="4Gi", description="[R] Memory in bytes. Default 4Gi.")


class Toleration(Model):
    """A Kubernetes toleration."""

    key: Annotated[str, text(QUALIFIED_NAME, 317, optional=True)] = Field(
        default="", description="Taint key. Default: empty, every key (operator Exists only)."
    )
    operator: Literal["Exists", "Equal"] = Field(default="Equal", description="How value is compared. Default Equal.")
    value: LabelValue = Field(default="", description="Taint value for operator Equal. Default: empty.")
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = Field(
        default="", description="Taint effect. Default: empty, every effect."
    )
    toleration_seconds: Annotated[int, Field(ge=0, le=31_536_000)] | None = Field(
        default=None, description="Seconds a NoExecute taint is tolerated. Default: for ever."
    )


class Scheduling(Model):
    """Where worker pods may run."""

    node_selector: Labels = Field(
        default={}, description="[R] Labels that the node of a worker pod must have. Default: none."
    )
    tolerations: Items[Toleration] = items(
        "[R] Taints that worker pods tolerate, besides the accelerator vendor's own. Default: none."
    )
    priority_class_name: OptionalName = Field(
        default="", description="[R] PriorityClass of head and worker pods. Default: empty, the cluster's default."
    )
    queue_name: OptionalName = Field(
        default="",
        description="[R] Kueue LocalQueue that admits the endpoint. Kueue needs its feature gate "
        "ElasticJobsViaWorkloadSlices for it; not run by the project. Default: empty, no queue.",
    )


class PodTemplate(Model):
    """Strategic-merge patches over the rendered pod templates, applied last. Labels of Ray and KubeRay are refused."""

    head: Annotated[dict[str, AnyJson], Frozen] = Field(
        default={}, description="[R] Patch over the head's pod template ({metadata, spec}). Default: none."
    )
    worker: Annotated[dict[str, AnyJson], Frozen] = Field(
        default={}, description="[R] Patch over the workers' pod template ({metadata, spec}). Default: none."
    )
