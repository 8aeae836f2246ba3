"""`spec.highAvailability`: what survives the loss of a pod, a node or a zone."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sglang_operator.api.base import REDIS_ADDRESS, Model, text
from sglang_operator.api.spec_model import SecretKey


class Redis(Model):
    """A Redis-compatible server, outside the endpoint, that keeps the state of Ray's head."""

    address: Annotated[str, text(REDIS_ADDRESS, 300)] = Field(
        description="[R] <host>:<port> of the server, with rediss:// before it for TLS. Required. Endpoints may share "
        "one server: each RayCluster has its own keys there, and KubeRay removes them with it."
    )
    password_secret: SecretKey | None = Field(
        default=None,
        description="[R] Password of the server, for Redis' user `default`. Default: not set, no password.",
    )


class HighAvailability(Model):
    """What survives the loss of a pod, a node or a zone."""

    redis: Redis | None = Field(
        default=None,
        description="[R] Keep the state of Ray's head in Redis, so that replicas go on answering while a lost head is "
        "replaced. Default: not set, a lost head restarts every replica, an outage of one model load.",
    )
    spread: Literal["Node", "Zone", "None"] = Field(
        default="Node",
        description="[R] Over what worker pods are spread as evenly as there is room, so that its loss takes few of "
        "them; None: wherever the scheduler puts them. Default: Node.",
    )
