"""`spec.scaling`: how many replicas there are, by how busy they are. All of it reaches running pods in place."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from sglang_operator.api.base import Model, Seconds

HOLD_SECONDS: Final = 600  # also of requests that wait as spec.scaling goes


class Scaling(Model):
    """Bounds of the number of replicas, and when it changes between them."""

    min: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=1,
        description="Fewest replicas. Default 1. 0: without requests there is none and no accelerator is held; the "
        "next request waits until a replica has loaded its model.",
    )
    max: Annotated[int, Field(ge=1, le=1000)] = Field(description="Most replicas. Required.")
    target_ongoing_requests: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=32,
        description="Requests in progress per replica that the number of replicas is chosen for, averaged over 30 "
        "seconds. Default 32.",
    )
    upscale_delay_seconds: Seconds = Field(
        default=30,
        description="Seconds of more requests than that before a replica is added. Default 30. The first replica after "
        "none starts at once.",
    )
    downscale_delay_seconds: Seconds = Field(
        default=600, description="Seconds of fewer requests than that before a replica is taken away. Default 600."
    )
    idle_seconds_before_zero: Seconds = Field(
        default=900, description="Seconds without any request before the last replica goes, if min is 0. Default 900."
    )
    hold_seconds: Annotated[int, Field(ge=1, le=86_400)] = Field(
        default=HOLD_SECONDS,
        description="Seconds that a request waits while no replica runs, before it is answered 503 with Retry-After. "
        "Default 600. More than a model load takes, node start-up included.",
    )
