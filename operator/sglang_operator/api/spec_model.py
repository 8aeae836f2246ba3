"""`spec.model` and `spec.engine`: what is served, and how the engine is started."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from sglang_operator.api.base import (
    ADAPTER_NAME,
    DATA_KEY,
    ENV_NAME,
    IMAGE,
    MAX_ITEMS,
    REVISION,
    SERVED_NAME,
    AnyJson,
    Frozen,
    Items,
    Model,
    Name,
    OptionalName,
    Quantity,
    computed,
    items,
    text,
)


class SecretRef(Model):
    """A Secret in the endpoint's namespace."""

    name: Name = Field(description="Name of the Secret. Required.")


class SecretKey(Model):
    """One entry of a Secret in the endpoint's namespace."""

    name: Name = Field(description="Name of the Secret. Required.")
    key: Annotated[str, text(DATA_KEY, 253)] = Field(description="Entry of the Secret. Required.")


class ConfigMapKey(Model):
    """One entry of a ConfigMap in the endpoint's namespace."""

    name: Name = Field(description="Name of the ConfigMap. Required.")
    key: Annotated[str, text(DATA_KEY, 253)] = Field(description="Entry of the ConfigMap. Required.")


class Cache(Model):
    """A volume that keeps downloaded models, so that a new pod does not download them again."""

    claim_name: OptionalName = Field(
        default="",
        description="[R] Name of an existing PersistentVolumeClaim to use. Default: empty, a claim `<endpoint>-cache` "
        "is created from the fields beside this one.",
    )
    size: Quantity = Field(
        default="100Gi",
        description="Size of the claim that is created, in bytes as a Kubernetes quantity. Default 100Gi. Make it "
        "twice the model, so that a new revision of the model fits beside the old one. A larger one enlarges the claim "
        "if its StorageClass allows that; a smaller one changes nothing, and condition Accepted says so.",
    )
    storage_class_name: OptionalName = Field(
        default="",
        description="StorageClass of the claim that is created. Default: empty, the cluster's default class. "
        "Kubernetes does not change it afterwards, and condition Accepted says so.",
    )
    reclaim: Literal["Retain", "Delete"] = Field(
        default="Retain",
        description="What becomes of the claim that is created when the endpoint is deleted. Default Retain: it stays, "
        "for an endpoint of the same name. Delete: it goes with the endpoint, and the downloaded models with it.",
    )
    access_mode: Literal["ReadWriteMany", "ReadWriteOnce"] = Field(
        default="ReadWriteMany",
        description="How the claim may be mounted. Default ReadWriteMany: by the pods of every node. ReadWriteOnce: by "
        "the pods of one node, so it goes with at most one replica of one node and upgrade.strategy: Recreate. "
        "Kubernetes does not change it afterwards, and condition Accepted says so.",
    )


LoraModule = Literal[
    "all",
    "down_proj",
    "embed_tokens",
    "gate_proj",
    "gate_up_proj",
    "k_proj",
    "kv_a_proj_with_mqa",
    "kv_b_proj",
    "lm_head",
    "o_proj",
    "q_a_proj",
    "q_b_proj",
    "q_proj",
    "qkv_proj",
    "qkvr",
    "up_proj",
    "v_proj",
    "weights_proj",
    "wk",
    "wo_ud",
    "wq_b",
]


class Lora(Model):
    """What a replica reserves for LoRA adapters when it starts. Adapters then come and go without a restart."""

    max_rank: Annotated[int, Field(ge=1, le=1024)] = Field(
        default=64,
        description="[R] Largest rank of an adapter (`r` of its adapter_config.json). Default 64. Accelerator memory "
        "is reserved for it, for each adapter that a batch can have.",
    )
    target_modules: Items[LoraModule] = Field(
        default=("all",),
        min_length=1,
        max_length=32,
        description="[R] Modules of the model that adapters may change. Default [all]: every one that SGLang can; "
        "naming those that your adapters change reserves less memory.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    max_loaded: Annotated[int, Field(ge=1, le=MAX_ITEMS)] = Field(
        default=8,
        description="[R] Adapters that can be loaded at a time, in the memory of the pod. Default 8. Up to seven of "
        "them share a batch (spec.engine.args.max_loras_per_batch less one).",
    )
    claim_name: OptionalName = Field(
        default="",
        description="[R] PersistentVolumeClaim that pvc:// adapters are read from. Default: empty, none.",
    )


def _not_written(schema: dict[str, Any]) -> None:
    """In list items an API server writes defaults into what the user wrote: here also for s3:// adapters."""
    del schema["default"]


class Adapter(Model):
    """A LoRA adapter of the model, and its name in the API."""

    name: Annotated[str, text(ADAPTER_NAME, 253)] = Field(
        description="Name in the API (`model` in requests and in /v1/models). Required."
    )
    uri: Annotated[str, Field(min_length=1, max_length=1024)] = Field(
        description="Address of the adapter, a directory with adapter_config.json. Required. As spec.model.uri: "
        "hf://, s3://, gs://, pvc:// (spec.model.lora.claimName) or file://, with the same credentials."
    )
    revision: Annotated[str, text(REVISION, 255)] = Field(
        default="main",
        description="Branch, tag or commit of an hf:// repository. Default main.",
        json_schema_extra=_not_written,
    )


class ModelSource(Model):
    """Which model is served, where it comes from and under which name."""

    uri: Annotated[str, Field(min_length=1, max_length=1024)] = Field(
        description="[R] Address of the model. Required. hf://<org>/<name> is read from the Hugging Face hub (or from "
        "the directory of a mirror, which the platform's defaults can mount: docs/how-to/install.md), "
        "s3://<bucket>/<path> and gs://<bucket>/<path> from object storage, "
        "pvc://<claim>/<path> from a PersistentVolumeClaim in the endpoint's namespace, file:///<path> from the "
        "serving image or a volume that spec.podTemplate adds."
    )
    revision: Annotated[str, text(REVISION, 255)] = Field(
        default="main",
        description="[R] Branch, tag or commit of an hf:// repository. Default main. The first replica of a revision "
        "of the endpoint finds out which commit it is (status.serving.modelCommit), and all others serve that one, "
        "those of later Ray clusters and after a rollback included. Another spec.restartToken takes what the branch is "
        "then. Has no meaning for other addresses, nor for models from a mirror: it holds one revision.",
    )
    served_name: Annotated[str, text(SERVED_NAME, 255)] = computed(
        "[R] Name of the model in the API (`model` in requests and in /v1/models). Default: last part of "
        "spec.model.uri. No colon: SGLang reads `model:adapter` as a LoRA adapter of a model."
    )
    token_secret: SecretKey | None = Field(
        default=None, description="[R] Hugging Face token for private and gated hf:// models. Default: no token."
    )
    storage_secret: SecretRef | None = Field(
        default=None,
        description="[R] Secret for s3:// and gs:// models; every entry becomes an environment variable of the worker "
        "containers: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL (a server that speaks S3), "
        "GOOGLE_SERVICE_ACCOUNT_KEY. Default: not set, the workload identity of spec.serviceAccountName.",
    )
    cache: Cache | None = Field(
        default=None,
        description="[R] Keep downloaded models (hf://, s3://, gs://) on a volume. Default: not set, every pod "
        "downloads to its own ephemeral storage (spec.resources.ephemeralStorage).",
    )
    lora: Lora | None = Field(
        default=None, description="[R] Room for LoRA adapters. Default: not set, no adapter can be loaded."
    )
    adapters: Items[Adapter] = items(
        "LoRA adapters that every replica loads, at most lora.maxLoaded. Default: none. A change needs no new pods: "
        "replicas load and unload while they serve, and status.adapters tells how far they are.",
        key="name",
    )


class EnvSource(Model):
    """Where the value of an environment variable is read from."""

    secret_key_ref: SecretKey | None = Field(default=None, description="Entry of a Secret. Default: not set.")
    config_map_key_ref: ConfigMapKey | None = Field(default=None, description="Entry of a ConfigMap. Default: not set.")


class EnvVar(Model):
    """One environment variable of the worker container."""

    name: Annotated[str, text(ENV_NAME, 256)] = Field(description="Name of the variable. Required.")
    value: Annotated[str, Field(max_length=32_768)] = Field(
        default="", description="Literal value, never a secret: pod specs are readable. Default: empty."
    )
    value_from: EnvSource | None = Field(
        default=None, description="Read the value from a Secret or ConfigMap instead. Default: not set."
    )


class Engine(Model):
    """How SGLang is started: image, arguments and environment."""

    image: Annotated[str, text(IMAGE, 1024)] = Field(
        default="",
        description="[R] Serving image of all pods of the endpoint; it must be built FROM a serving image of this "
        "project. Default: empty, the platform's image for accelerator.vendor.",
    )
    image_pull_secrets: Items[SecretRef] = items("[R] Secrets for pulling the image. Default: none.", key="name")
    args: Annotated[dict[str, AnyJson], Field(max_length=256), Frozen] = Field(
        default={},
        description="[R] Any SGLang server argument by its field name, for example mem_fraction_static: 0.85. Default: "
        "none. Arguments that the platform owns (host, port, tp_size, api_key and so on) are refused with the field to "
        "use instead. See docs/reference/engine-args.md.",
    )
    args_check: Literal["Strict", "Warn"] = Field(
        default="Strict",
        description="What to do with an argument that the pinned SGLang does not know or whose type differs. Default "
        "Strict: refuse the endpoint. Warn: let the replica decide; only with `image`, whose SGLang may differ.",
    )
    env: Items[EnvVar] = items(
        "[R] Environment variables of the worker containers. Default: none. Variables that the platform sets win.",
        key="name",
    )
