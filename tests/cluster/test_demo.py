"""`make demo`, but for the cluster it makes first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cluster.actors import wait_until
from localcluster.cluster import LocalCluster

ROOT = Path(__file__).parents[2]
SYSTEM = "sglang-system"
CRD = "sglangendpoints.serve.sglang.io"
SECONDS = 1200
pytestmark = pytest.mark.long


def test_demo_asks_and_is_told(cluster: LocalCluster) -> None:
    plane = cluster.control_plane
    plane.kubectl("delete", "crd", CRD, "--ignore-not-found")  # a fresh cluster has none of ours
    try:
        done = subprocess.run(
            [sys.executable, ROOT / "hack" / "cluster" / "demo.py", f"--kubeconfig={plane.kubeconfig}"],
            env={"PYTHONPATH": f"{ROOT}/tests:{ROOT}/hack/cluster", "HOME": str(Path.home()), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "Paris" in done.stderr
        assert "kubectl get sgl" in done.stdout
    finally:
        plane.kubectl("delete", "sgl", "smollm2", "--ignore-not-found")
        plane.kubectl("delete", "namespace", SYSTEM, "--ignore-not-found", "--wait=false")
        plane.kubectl("delete", "clusterrole,clusterrolebinding", "--selector=app.kubernetes.io/name=sglang-operator")
        wait_until(lambda: not plane.kubectl.objects("pods", "-ndefault"), 900, "the pods of the demo to go")
        plane.kubectl("delete", "crd", CRD, "--ignore-not-found")
        plane.kubectl("apply", "--server-side", "--filename", str(ROOT / "crds"))
