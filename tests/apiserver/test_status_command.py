"""`kubectl sglang status` through a real kubectl, of endpoints that the real reconciler has looked at."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from apiserver.passes import Passes, passes
from localcluster.tools import program

if TYPE_CHECKING:
    from apiserver.conftest import ControlPlane

PLUGIN = Path(sys.executable).parent  # where kubectl-sglang is


async def status(plane: ControlPlane, on: Passes, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Of the endpoint `smollm2`, as a plugin of this control plane's kubectl, which it asks; passes go on meanwhile."""
    path = f"{PLUGIN}:{program('kubectl').parent}:{os.environ['PATH']}"
    command = [
        str(program("kubectl")),
        "sglang",
        "status",
        "smollm2",
        f"--kubeconfig={plane.kubeconfig}",
        f"--namespace={on.namespace}",
        *arguments,
    ]
    return await asyncio.to_thread(
        subprocess.run, command, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )


def test_status_says_whether_it_is_as_asked_and_if_not_why(control_plane: ControlPlane) -> None:
    async def main() -> None:
        async with passes(control_plane.kubeconfig) as on:
            absent = await status(control_plane, on)
            assert (absent.returncode, absent.stdout) == (3, "")
            assert "(NotFound)" in absent.stderr
            assert "remedy: `kubectl get sgl -A`" in absent.stderr

            key = await on.create(replicas=0)
            unseen = await status(control_plane, on)
            assert unseen.returncode == 1
            assert "is it running" in unseen.stdout

            await on.settle(key, on.operator())
            stopped = await status(control_plane, on, "--wait", "--timeout", "30s", "-o", "json")
            assert stopped.returncode == 0, stopped.stdout
            assert stopped.stderr.startswith("Stopped ")
            assert json.loads(stopped.stdout)["outcome"] == "Arrived"

            await on.edit(key, replicas=1)
            late = await status(control_plane, on, "--wait", "--timeout", "3s")
            assert late.returncode == 1, "nobody has made a pass over it"
            await on.operator().reconcile(key)
            starting = await status(control_plane, on)
            assert starting.returncode == 1
            assert "Accepted " in starting.stdout
            assert "revision 1  smollm2-" in starting.stdout

    asyncio.run(main())
