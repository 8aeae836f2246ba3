"""The Job of docs/reference/images.md checks the serving image in a pod, and its log ends with the report."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from localcluster.cluster import LocalCluster
from localcluster.images import serving_name

PAGE = Path(__file__).parents[2] / "docs/reference/images.md"
JOB_SECONDS = 900
pytestmark = [pytest.mark.timeout(1200), pytest.mark.long]


def job() -> dict[str, Any]:
    """The page's, on a CPU: with this image, no accelerator, and one engine start."""
    (block,) = (one.partition("```")[0] for one in PAGE.read_text().split("```yaml\n") if "kind: Job" in one)
    made: dict[str, Any] = yaml.safe_load(block)
    (container,) = made["spec"]["template"]["spec"]["containers"]
    container |= {"image": serving_name(), "resources": {"requests": {"cpu": "1", "memory": "4Gi"}}}
    container["command"].append("--quick")
    return made


def test_the_pages_job_prints_a_report(cluster: LocalCluster) -> None:
    kubectl, namespace = cluster.control_plane.kubectl, f"conformance-{os.getpid()}"
    cluster.control_plane.make_namespace(namespace)
    try:
        kubectl("create", f"--namespace={namespace}", "--filename=-", stdin=json.dumps(job()))
        words = ("wait", f"--namespace={namespace}", "--for=condition=Complete", "job", "--all")
        kubectl(*words, f"--timeout={JOB_SECONDS}s", seconds=JOB_SECONDS + 60)
        log = kubectl("logs", f"--namespace={namespace}", "job/sglang-conformance")
        assert "sglang-conformance/report.json" in log.splitlines()[-1], log[-3000:]
        assert "pass" in log.splitlines()[-1], log[-3000:]
    finally:
        kubectl("delete", "namespace", namespace, "--wait=false")
