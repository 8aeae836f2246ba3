"""The stored endpoint is what the user wrote: applied once more it changes nothing, however a quantity is spelled."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from apiserver.passes import ROOT, passes
from localcluster.kubectl import Kubectl

from sglang_operator.cluster.paths import ENDPOINT
from sglang_operator.cluster.types import Key

if TYPE_CHECKING:
    from localcluster import ControlPlane

Object = dict[str, Any]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
ODD = {
    "resources": {"cpu": "1000m", "memory": "1024Mi", "sharedMemory": 536870912, "ephemeralStorage": "50000M"},
    "head": {"cpu": "0.5", "memory": "2048Mi"},
}


def manifests(path: Path) -> list[Object]:
    found: list[Object] = [one for one in yaml.safe_load_all(path.read_text(encoding="utf-8")) if one]
    return [one for one in found if one["kind"] == ENDPOINT.name]


def odd() -> list[Object]:
    (manifest,) = manifests(ROOT / "examples" / "smollm2.yaml")
    manifest["spec"].update(ODD)
    return [manifest]


GIVEN = [*(pytest.param(manifests(path), id=path.stem) for path in EXAMPLES), pytest.param(odd(), id="odd-quantities")]


@pytest.mark.parametrize("given", GIVEN)
def test_applied_again_nothing_changes(control_plane: ControlPlane, given: list[Object]) -> None:
    async def main() -> None:
        async with passes(control_plane.kubeconfig) as on:
            text, place = json.dumps({"apiVersion": "v1", "kind": "List", "items": given}), f"-n{on.namespace}"
            await call(control_plane.kubectl, "apply", "--server-side", "-f-", place, stdin=text)
            keys = [Key(on.namespace, one["metadata"]["name"]) for one in given]
            for key in keys:
                await on.settle(key)
            before = len(on.written), [await on.api.get(ENDPOINT.of(*key)) for key in keys]
            await call(control_plane.kubectl, "diff", "--server-side", "-f-", place, stdin=text)
            await call(control_plane.kubectl, "apply", "--server-side", "-f-", place, stdin=text)
            for key in keys:
                assert (await on.condition(key, "Accepted"))["status"] == "True"
                await on.operator().reconcile(key)
            assert before == (len(on.written), [await on.api.get(ENDPOINT.of(*key)) for key in keys])

    asyncio.run(main())


async def call(kubectl: Kubectl, *arguments: str, stdin: str) -> str:
    """Raises Refused if kubectl does not end with 0; a difference is 1."""
    return await asyncio.to_thread(kubectl, *arguments, stdin=stdin)
