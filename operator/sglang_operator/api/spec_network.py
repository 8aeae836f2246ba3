"""`spec.network`: what worker pods need of the network beyond a plain one."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sglang_operator.api.base import RESOURCE_NAME, Model, text


class Rdma(Model):
    """RDMA devices (InfiniBand, RoCE, EFA) of each worker pod, as their device plugin offers them."""

    resource_name: Annotated[str, text(RESOURCE_NAME, 317)] = Field(
        description="[R] Extended resource of the device plugin, for example rdma/hca_shared_devices_a. Required."
    )
    count: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1, description="[R] Devices of each worker pod. Default 1."
    )


class Network(Model):
    """What worker pods need of the network beyond a plain one."""

    rdma: Rdma | None = Field(
        default=None,
        description="[R] RDMA devices for replicas on several nodes. Default: not set, their ranks talk by TCP. Not "
        "yet run on hardware by the project.",
    )
