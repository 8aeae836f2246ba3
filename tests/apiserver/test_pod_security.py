"""A namespace that enforces the Pod Security Standard `restricted` admits the pods that KubeRay makes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest
from apiserver.passes import Passes, passes
from waiting import PATIENCE

from sglang_operator.cluster.paths import EVENT, POD
from sglang_operator.cluster.types import Key

if TYPE_CHECKING:
    from localcluster import ControlPlane

ENFORCE = {"pod-security.kubernetes.io/enforce": "restricted"}
EXAMPLES = ("smollm2", "nvidia", "amd", "two-nodes", "scale-to-zero", "high-availability", "model-cache")


async def restricted(on: Passes) -> None:
    await on.api.patch(f"/api/v1/namespaces/{on.namespace}", {"metadata": {"labels": ENFORCE}})


async def until_pods_or_refusals(on: Passes, key: Key) -> tuple[set[str], list[str]]:
    """Types of the Ray nodes that have pods, and what the API server said of those that it refused."""
    await on.settle(key)
    async with asyncio.timeout(60 * PATIENCE):
        while True:
            pods = {pod["metadata"]["labels"]["ray.io/node-type"] for pod in await on.api.list(POD.of(on.namespace))}
            events: list[dict[str, Any]] = await on.api.list(EVENT.of(on.namespace))
            refused = [one["message"] for one in events if "violates PodSecurity" in one["message"]]
            if refused or pods == {"head", "worker"}:
                return pods, refused
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("example", EXAMPLES)
def test_head_and_workers_are_admitted(control_plane: ControlPlane, example: str) -> None:
    async def main() -> None:
        async with passes(control_plane.kubeconfig) as on:
            await restricted(on)
            key = await on.create(example, scaling=None, replicas=1)
            assert await until_pods_or_refusals(on, key) == ({"head", "worker"}, [])
            pods = await on.api.list(POD.of(on.namespace))
            assert {name for pod in pods for name in holders_of_a_token(pod)} == {"autoscaler"}

    asyncio.run(main())


def holders_of_a_token(pod: Mapping[str, Any]) -> Iterator[str]:
    """Containers of it that may talk to the API server, by whatever KubeRay or the API server has added."""
    spec = pod["spec"]
    tokens = {one["name"] for one in spec["volumes"] if "serviceAccountToken" in json.dumps(one.get("projected", {}))}
    for container in [*spec.get("initContainers", ()), *spec["containers"]]:
        if tokens & {mount["name"] for mount in container["volumeMounts"]}:
            yield container["name"]


def test_what_a_user_adds_may_leave_it(control_plane: ControlPlane) -> None:
    """As docs/how-to/install.md says; and it shows that the label is enforced here."""

    async def main() -> None:
        async with passes(control_plane.kubeconfig) as on:
            await restricted(on)
            key = await on.create(podTemplate={"worker": {"spec": {"hostNetwork": True}}})
            _, refused = await until_pods_or_refusals(on, key)
            assert refused
            assert "host namespaces (hostNetwork=true)" in refused[0]

    asyncio.run(main())
