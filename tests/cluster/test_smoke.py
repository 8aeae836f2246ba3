"""From an endpoint's file to an answer: rendered, made by KubeRay, run on a node, asked through its Service."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from localcluster.cluster import LocalCluster
from localcluster.kubectl import Kubectl
from waiting import wait_until

ENDPOINT = Path(__file__).parent / "endpoint.yaml"
MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
SECONDS = 900  # two idle cores need less than a minute


def ask(url: str, question: str) -> str:
    body = {"model": "any", "messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 20}
    request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=SECONDS) as reply:
        answer: dict[str, Any] = json.load(reply)
    return str(answer["choices"][0]["message"]["content"])


def serves(kubectl: Kubectl) -> bool:
    found = kubectl.objects("rayservice")
    return bool(found and found[0].get("status", {}).get("numServeEndpoints"))


@pytest.mark.long
def test_pod_answers_a_chat_through_its_service(cluster: LocalCluster) -> None:
    if not (cluster.models / MODEL).is_dir():
        pytest.fail(f"no model in {cluster.models}: run `make model`")
    command = [sys.executable, "-m", "sglang_operator", "render", "-f", str(ENDPOINT)]
    rendered = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    kubectl = cluster.control_plane.kubectl
    kubectl.apply(rendered)
    wait_until(lambda: serves(kubectl), SECONDS, "KubeRay to see a serve endpoint")
    (service,) = kubectl.objects("service", "smollm2")
    assert "Paris" in ask(f"http://{service['spec']['clusterIP']}", "What is the capital of France?")
