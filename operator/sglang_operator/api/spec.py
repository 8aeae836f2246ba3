"""The fields of `SGLangEndpoint.spec`, the only source of the CRD.

Names are a promise to users; a field is here only when it does something. `[R]` in a description says that a change needs
a new revision (new pods). YAML uses camelCase, Python snake_case. Every model is frozen and refuses unknown fields.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$")]


class Model(BaseModel):
    """Base of every part of the spec: camelCase in YAML, frozen, unknown fields refused."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


def computed(**constraints: Any) -> Any:
    """A field whose default follows from others: None only until `endpoint.resolve`, so nothing behind it sees None."""
    return Field(default=None, **constraints)


class SecretKey(Model):
    """One entry of a Secret in the endpoint's namespace."""

    name: str = Field(min_length=1, description="Name of the Secret.")
    key: str = Field(min_length=1, description="Entry of the Secret.")


class SecretRef(Model):
    name: str = Field(min_length=1, description="Name of the Secret.")


class Cache(Model):
    claim_name: str = ""
    size: Quantity = "100Gi"
    storage_class_name: str = ""
    access_mode: Literal["ReadWriteMany", "ReadWriteOnce"] = "ReadWriteMany"


class ModelSource(Model):
    uri: str
    revision: str = "main"
    served_name: str = ""
    token_secret: SecretKey | None = None
    cache: Cache | None = None


class Accelerator(Model):
    vendor: Literal["nvidia", "amd", "cpu"] = "nvidia"
    count: int = 1
    products: tuple[str, ...] = ()
    resource_name: str = ""


class Parallelism(Model):
    tensor: int = computed()
    pipeline: int = 1
    data: int = 1


class Resources(Model):
    cpu: Quantity = computed()
    memory: Quantity = computed()
    shared_memory: Quantity = computed()
    ephemeral_storage: Quantity = computed()


class Head(Model):
    cpu: Quantity = "1"
    memory: Quantity = "4Gi"


class Toleration(Model):
    key: str = ""
    operator: Literal["Exists", "Equal"] = "Equal"
    value: str = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""
    toleration_seconds: int | None = None


class Scheduling(Model):
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    priority_class_name: str = ""
    queue_name: str = ""


class EnvSource(Model):
    """Where a variable's value is read from: exactly one of the two."""

    secret_key_ref: SecretKey | None = None
    config_map_key_ref: SecretKey | None = None


class EnvVar(Model):
    """One environment variable: a literal `value`, or one entry of a Secret or ConfigMap (`valueFrom`)."""

    name: str
    value: str = ""
    value_from: EnvSource | None = None


class Engine(Model):
    image: str = ""
    image_pull_secrets: tuple[SecretRef, ...] = ()
    args: dict[str, Any] = Field(default_factory=dict)
    args_check: Literal["Strict", "Warn"] = "Strict"
    env: tuple[EnvVar, ...] = ()


class Service(Model):
    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"
    port: int = 80
    annotations: dict[str, str] = Field(default_factory=dict)


class IngressTls(Model):
    secret_name: str = ""


class Ingress(Model):
    class_name: str = ""
    host: str = ""
    path: str = "/"
    annotations: dict[str, str] = Field(default_factory=dict)
    tls: IngressTls | None = None


class ParentRef(Model):
    name: str
    namespace: str = ""
    section_name: str = ""


class Route(Model):
    parent_refs: tuple[ParentRef, ...] = ()
    hostnames: tuple[str, ...] = ()


class Limits(Model):
    max_body_bytes: int = 67_108_864


class Api(Model):
    keys_secret: SecretRef | None = None
    admin_key_secret: SecretKey | None = None
    allow_anonymous: bool = False
    unknown_model: Literal["Answer", "NotFound"] = "Answer"
    service: Service = Service()
    ingress: Ingress | None = None
    route: Route | None = None
    limits: Limits = Limits()


class Upgrade(Model):
    drain_seconds: int = 900


class PodTemplate(Model):
    """Strategic-merge patches over the rendered pod templates, applied last. The one schema-less place besides engine.args."""

    head: dict[str, Any] = Field(default_factory=dict)
    worker: dict[str, Any] = Field(default_factory=dict)


class EndpointSpec(Model):
    replicas: int = 1
    task: Literal["generate", "embed"] = "generate"
    service_account_name: str = ""
    model: ModelSource
    accelerator: Accelerator = Accelerator()
    parallelism: Parallelism = Parallelism()
    resources: Resources = Resources()
    head: Head = Head()
    scheduling: Scheduling = Scheduling()
    engine: Engine = Engine()
    api: Api = Api()
    upgrade: Upgrade = Upgrade()
    pod_template: PodTemplate = PodTemplate()
