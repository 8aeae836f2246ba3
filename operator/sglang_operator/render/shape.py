"""The shape of one replica: the one place where `spec.parallelism` and `spec.accelerator` become numbers.

docs/how-to/parallelism.md has this arithmetic as a table of examples, which a test compares with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sglang_operator.api import Endpoint
from sglang_operator.render.quantity import whole_cores
from sglang_serve.args import ParallelArgs

DEVICES = {"nvidia": "nvidia.com/gpu", "amd": "amd.com/gpu", "cpu": ""}
"""Extended resource by vendor, as their device plugins call it; vendors also taint their nodes with it."""
SPREAD = "STRICT_SPREAD"
"""Ray's strategy for the bundles of a replica: each on a node of its own, all of them or none."""


@dataclass(frozen=True)
class Shape:
    """How many of what one replica takes."""

    parallelism: ParallelArgs
    """What the engine is told."""
    cores: int
    """Of a worker pod, as Ray counts them."""
    devices: int
    """Accelerators that a worker pod asks for; 0 with vendor cpu."""
    resource_name: str = ""
    """As what it asks for them; "" with vendor cpu."""

    @property
    def pods(self) -> int:
        """Worker pods of a replica, one on each of its nodes."""
        return self.parallelism.node_count

    @property
    def accelerators(self) -> int:
        """Accelerators of a replica; 0 with vendor cpu."""
        return self.devices * self.pods

    def workers(self, replicas: int) -> int:
        """Worker pods of so many replicas: the size of the worker group."""
        return replicas * self.pods

    @property
    def placement(self) -> dict[str, Any]:
        """Keys of the Serve deployment. A replica takes all of each of its pods, so a pod never runs two.

        A replica on one node is one actor, whose `num_cpus` Ray also makes OMP_NUM_THREADS. On several it takes the
        first bundle, and its followers take the others.
        """
        actor = {"num_cpus": self.cores, **({"num_gpus": self.devices} if self.devices else {})}
        if self.pods == 1:
            return {"ray_actor_options": actor}
        bundle = {"CPU": self.cores, **({"GPU": self.devices} if self.devices else {})}
        bundles = [dict(bundle) for _ in range(self.pods)]
        return {
            "ray_actor_options": actor,
            "placement_group_bundles": bundles,
            "placement_group_strategy": SPREAD,
        }


def shape_of(endpoint: Endpoint) -> Shape:
    """The shape of every replica of an endpoint."""
    spec, parallelism = endpoint.spec, endpoint.spec.parallelism
    return Shape(
        parallelism=ParallelArgs(
            tensor=parallelism.tensor,
            pipeline=parallelism.pipeline,
            data=parallelism.data,
            attention_data=_used(parallelism.attention_data),
            expert=_used(parallelism.expert),
            nodes=_used(parallelism.nodes),
        ),
        cores=whole_cores(spec.resources.cpu),
        devices=0 if spec.accelerator.vendor == "cpu" else spec.accelerator.count,
        resource_name=spec.accelerator.resource_name or DEVICES[spec.accelerator.vendor],
    )


def _used(size: int) -> int | None:
    return size if size > 1 else None
