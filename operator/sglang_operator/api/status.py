"""`SGLangEndpoint.status`: what the operator reports. The CLI and the renderer never read it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from sglang_operator.api.base import Items, Model, items


def reported(description: str, **schema: Any) -> Any:
    """An optional field that the operator writes."""
    return Field(default=None, validate_default=False, description=description, json_schema_extra=schema or None)


class Condition(Model):
    """One aspect of the endpoint, as every Kubernetes condition (metav1.Condition)."""

    type: Annotated[str, Field(max_length=316)] = Field(description="Name of the aspect, for example Ready.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    observed_generation: Annotated[int, Field(ge=0)] = reported("metadata.generation that this condition is about.")
    last_transition_time: str = Field(
        description="When status last changed (RFC 3339).", json_schema_extra={"format": "date-time"}
    )
    reason: Annotated[str, Field(min_length=1, max_length=1024)] = Field(
        description="One word of a closed list that says why."
    )
    message: Annotated[str, Field(max_length=32_768)] = Field(description="What happened and what to do.")


class Accelerators(Model):
    """Accelerators that the endpoint holds now."""

    allocated: int = reported("Accelerators of all its pods that have a node.")
    rollout: int = reported("Those of them that belong to a revision which does not serve.")


class ServingRevision(Model):
    """What answers requests."""

    revision: str = reported("Name of the revision, and of its RayService.")
    image: str = reported("Image of its pods.")
    model: str = reported("The model as spec.model.uri names it.")
    model_commit: str = reported("Commit of an hf:// model that its replicas serve, once one has answered.")


class ResolvedSpec(Model):
    """What the spec comes to with the platform's defaults and what is computed."""

    served_name: str = reported("Name that clients give as `model`.")
    vendor: str = reported("Vendor of the accelerators.")
    resource_name: str = reported("Extended resource that a worker pod asks for; absent with vendor cpu.")
    accelerators_per_replica: int = reported("Accelerators of one replica, over all its pods.")
    pods_per_replica: int = reported("Worker pods of one replica, each on a node of its own.")
    tensor: int = reported("Tensor parallelism.")
    pipeline: int = reported("Pipeline stages.")
    data: int = reported("Data-parallel copies in a replica.")


class UpdatingRevision(Model):
    """What is on its way."""

    revision: str = reported("Name of the revision.")
    step: str = reported(
        "What it does now: Pending, model, load, warmup, adapters, ready; failed, and backoff before another try."
    )
    progress: str = reported("The latest line of its log about that.")
    counts_from: str = reported(
        "Since when time without progress counts against spec.upgrade.progressDeadlineSeconds (RFC 3339), or since "
        "condition Progressing changed after a pause or KubeRay's silence, if that is later. Absent while none does: "
        "it has no node, nobody asks for a replica, or the operator has no way to its pods.",
        format="date-time",
    )
    changed: Items[str] = items("Fields of the spec that differ from the serving revision; none if it is that one.")


class RevisionReport(Model):
    """One revision, past or present."""

    name: str = Field(description="Name of the revision.")
    number: int = reported("It grows with each revision; a revision that is wanted again gets a new one.")
    state: str = reported("Serving, Updating, Draining, Failed or Past.")
    model_commit: str = reported("Commit that the branch of its hf:// model is for all its Ray clusters.")
    reason: str = reported("Why it failed.")
    message: str = reported("What happened, and what to do about it.")
    log: Items[str] = items("The last lines of its log.")
    time: str = reported("When it was first recorded, or failed (RFC 3339).")


class AdapterReport(Model):
    """One LoRA adapter of spec.model.adapters."""

    name: str = Field(description="Name of the adapter.")
    state: str = reported(
        "Loading, Loaded (in every replica that answers), Failed (in one of them, or more) or Waiting (for the next "
        "revision, as what serves has another model or other room)."
    )
    replicas: str = reported("Replicas that have it, of those that answer, for example 2/3.")
    message: str = reported("Why it failed. Replicas try again each minute, and go on serving meanwhile.")


class EndpointStatus(Model):
    """What the operator saw last."""

    observed_generation: int = reported("metadata.generation that this status is about.")
    reason: str = reported(
        "Whether it serves, and if not why, in one word: the reason of condition Ready, or of what is in the way while "
        "nothing serves."
    )
    conditions: Items[Condition] = items("State of the endpoint by aspect.", key="type")
    url: str = reported("URL of the endpoint inside the cluster; its API is below /v1.")
    replicas: int = reported("Replicas that exist.")
    ready_replicas: int = reported("Replicas that answer requests.")
    desired_replicas: int = reported("Replicas that are wanted now.")
    at_zero_since: str = reported(
        "Since when it has had no replica because nobody asked for anything (RFC 3339).", format="date-time"
    )
    last_wake_seconds: int = reported(
        "Seconds that it took last from no replica to one that answers, counted from the creation of its pod. A "
        "wake-up that found the pod from before the sleep does not count."
    )
    selector: str = reported("Label selector of the worker pods, for the scale subresource.")
    accelerators: Accelerators | None = reported("Accelerators that the endpoint holds now.")
    serving: ServingRevision | None = reported("What answers requests.")
    resolved: ResolvedSpec | None = reported(
        "What the spec comes to with the platform's defaults. The serving revision keeps what was in effect when it "
        "was recorded."
    )
    updating: UpdatingRevision | None = reported(
        "The revision that is on its way, if there is one; also the serving one while it wakes up, grows or recovers."
    )
    adapters: Items[AdapterReport] = items("LoRA adapters, where spec.model.lora is set.", key="name")
    revisions: Items[RevisionReport] = items("The last revisions, the newest first.", key="name")
