"""The `SGLangEndpoint` object and its `spec`: with the `spec_*` modules beside it the only source of the CRD.

Names are a promise to users; a field is here only when it does something. `[R]` in a description: a change needs
a new revision (new pods). YAML uses camelCase, Python snake_case. Rules across fields are in `rules.py`.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field

from sglang_operator.api.base import DNS_LABEL, Model, OptionalName, Seconds, part, text
from sglang_operator.api.spec_api import Api
from sglang_operator.api.spec_availability import HighAvailability
from sglang_operator.api.spec_model import Engine, ModelSource
from sglang_operator.api.spec_network import Network
from sglang_operator.api.spec_pods import Accelerator, Head, Parallelism, PodTemplate, Resources, Scheduling
from sglang_operator.api.spec_scaling import Scaling

GROUP: Final = "serve.sglang.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = "serve.sglang.io/v1alpha1"
KIND: Final = "SGLangEndpoint"


class Upgrade(Model):
    """How a change of the endpoint reaches its pods."""

    strategy: Literal["BlueGreen", "Recreate"] = Field(
        default="BlueGreen",
        description="How a new revision replaces the serving one. Default BlueGreen: beside it, on a second set of "
        "accelerators, without an outage. Recreate: after it, with an outage of one model load.",
    )
    when_no_capacity: Literal["Wait", "Recreate"] = Field(
        default="Wait",
        description="What BlueGreen does when pods of the new revision have had no node for capacityTimeoutSeconds. "
        "Default Wait. Recreate: the serving revision makes room, with an outage of one model load.",
    )
    capacity_timeout_seconds: Seconds = Field(
        default=900,
        description="Seconds without a node for new pods before whenNoCapacity applies; where the serving revision "
        "made room for them, before they have failed and it comes back; where a replica on several nodes has some of "
        "them only, before it gives these back, a minute at least. Default 900.",
    )
    progress_deadline_seconds: Annotated[int, Field(ge=1, le=86_400)] = Field(
        default=900,
        description="Seconds without any progress (image pull, download, load) after which a new revision has failed "
        "and the earlier one is kept. Never a limit on the whole; time without a node is not counted. Default 900.",
    )
    drain_seconds: Seconds = Field(
        default=900,
        description="[R] Seconds that running answers get to finish before their pod is ended. Default 900. Grace "
        "periods of pods and time-outs of the proxy follow from it.",
    )
    min_ready_seconds: Seconds = Field(
        default=0,
        description="Seconds that the old revision is kept after a switch, to go back to it if the new one fails "
        "within. Default 0.",
    )
    keep_failed_seconds: Seconds = Field(
        default=3600,
        description="Seconds that head pod and objects of a failed revision are kept for reading; its accelerators "
        "are freed at once. Default 3600.",
    )
    history_limit: Annotated[int, Field(ge=0, le=50)] = Field(
        default=5, description="Records of past revisions that are kept. Default 5."
    )


class EndpointSpec(Model):
    """One model, served by replicas behind one URL."""

    replicas: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=1, description="Number of replicas, each with its own accelerators. Default 1; 0 stops the endpoint."
    )
    scaling: Scaling | None = Field(
        default=None,
        description="Let the number of replicas follow the requests. Default: not set, spec.replicas is the number.",
    )
    paused: bool = Field(
        default=False, description="Write nothing for this endpoint until it is false again. Default false."
    )
    restart_token: Annotated[str, Field(max_length=253)] = Field(
        default="",
        description="[R] Any other text starts a new revision of the same spec: to try again after a rollback, or to "
        "take the platform's new defaults. Default: empty.",
    )
    task: Literal["generate", "embed", "rerank", "score", "classify", "transcribe"] = Field(
        default="generate",
        description="[R] What the model is for. Default generate: chat and completions. embed: /v1/embeddings, also "
        "of a model that could generate. rerank: /v1/rerank. score: /v1/score. classify: /v1/classify. transcribe: "
        "/v1/audio/transcriptions and the websocket /v1/realtime.",
    )
    service_account_name: OptionalName = Field(
        default="",
        description="[R] ServiceAccount of the worker pods (workload identity). Default: empty, the namespace's "
        "default account with its token not mounted.",
    )
    model: ModelSource = Field(description="Which model is served. Required.")
    accelerator: Accelerator = part("[R] Accelerators of one replica. Default: one NVIDIA GPU.")
    parallelism: Parallelism = part("[R] How a replica's accelerators share the model. Default: all tensor-parallel.")
    resources: Resources = part("[R] Host resources of each worker pod. Default: by accelerator.vendor and count.")
    head: Head = part("[R] Host resources of the Ray head pod. Default: 1 core and 4Gi.")
    scheduling: Scheduling = part("[R] Where worker pods may run. Default: any node with the accelerators.")
    network: Network = part("[R] What worker pods need of the network. Default: a plain one.")
    engine: Engine = part("How SGLang is started. Default: the platform's image and SGLang's own defaults.")
    api: Api = part("Keys, behaviour and exposure of the HTTP API. Default: open inside the cluster.")
    high_availability: HighAvailability = part(
        "[R] What survives the loss of a pod, a node or a zone. Default: other replicas; a lost head restarts them all."
    )
    upgrade: Upgrade = part("How a change reaches the pods. Default: those of its fields.")
    pod_template: PodTemplate = part("[R] Patches over the rendered pod templates. Default: none.")

    @property
    def fewest(self) -> int:
        """Replicas that there always are."""
        return self.scaling.min if self.scaling else self.replicas

    @property
    def most(self) -> int:
        """Replicas that there may be."""
        return self.scaling.max if self.scaling else self.replicas

    @property
    def holds_requests(self) -> bool:
        """It may be without a replica while it serves: then its head takes requests and holds them."""
        return self.scaling is not None and self.scaling.min == 0


class Metadata(Model):
    """The part of an object's metadata that the operator reads; Kubernetes knows the rest."""

    model_config = ConfigDict(extra="ignore")

    name: str = Field(min_length=1, description="Name of the endpoint and of its Service.")
    namespace: Annotated[str, text(DNS_LABEL, 63)] = Field(
        default="default", description="Namespace. Default: default."
    )
    uid: str = Field(default="", description="Set by the API server. Default: empty, not read from a cluster.")


class SGLangEndpoint(Model):
    """SGLangEndpoint serves one model with SGLang behind an OpenAI-compatible URL."""

    api_version: Literal["serve.sglang.io/v1alpha1"] = Field(description="Version of the API.")
    kind: Literal["SGLangEndpoint"] = Field(description="Kind of the object.")
    metadata: Metadata = Field(description="Standard object metadata.")
    spec: EndpointSpec = Field(description="What is wanted. Required.")
