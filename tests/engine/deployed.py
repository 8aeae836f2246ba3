"""Changes of a deployed application as KubeRay makes them, and what its replicas say of themselves."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import httpx
import psutil
from engine.apps import ServeApp

from sglang_operator.render.serve_config import replica_count

SCRIPT = Path(__file__).parent / "scale.py"
SCALE_SECONDS = 400  # another replica loads its engine beside a running one


def deploy(app: ServeApp, engine_python: Path, *, replicas: int = 0, **settings: Any) -> None:
    """As KubeRay does when serveConfigV2 changes: so many replicas, as before with 0, and other settings."""
    config = json.loads(json.dumps(app.serve_config))
    counted = replica_count(replicas) if replicas else {}
    config["applications"][0]["deployments"][0].update({**counted, **settings})
    (raylet,) = app.named("raylet")
    done = subprocess.run(
        [engine_python, SCRIPT, gcs_address(raylet)],
        input=json.dumps(config),
        env={**os.environ, **ray_settings(raylet)},
        capture_output=True,
        text=True,
        timeout=SCALE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def ray_settings(raylet: psutil.Process) -> dict[str, str]:
    """Of the application's own Ray: its token, and what makes Serve use HAProxy."""
    return {name: value for name, value in raylet.environ().items() if name.startswith("RAY_")}


def gcs_address(raylet: psutil.Process) -> str:
    """Where Ray's control store listens: it chose the port itself."""
    (address,) = (one.partition("=")[2] for one in raylet.cmdline() if one.startswith("--gcs-address="))
    return address


def reports(app: ServeApp, query: str = "") -> dict[str, dict[str, Any]]:
    """What the replicas that answer say of themselves, by name. Where none answers, the head does, with 503."""
    found = {}
    for _ in range(20):
        answer = httpx.get(f"{app.url}/-/replica{query}", timeout=30)
        if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
            report = answer.raise_for_status().json()
            found[report["replica"]] = report
    return found
