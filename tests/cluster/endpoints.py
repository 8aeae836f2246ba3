"""The endpoint of the cluster tests: endpoint.yaml with a model that leaves the two cores to what is tested."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml
from localcluster.cluster import LocalCluster
from localcluster.images import serving_name
from localcluster.shell import run
from tiny_models import find_engine_python, made_by

ENDPOINT = Path(__file__).with_name("endpoint.yaml")
TINY = "test/tiny-qwen2"
DRAIN_SECONDS = 300  # streams get their time
ADMIN = {"name": "admin", "key": "key"}
ADMIN_KEY = "admin-key-of-these-tests"
CHAT = {"model": "any", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8}
GREEDY = {"model": "any", "prompt": "License", "max_tokens": 8, "temperature": 0, "ignore_eos": True}  # always the same


def tiny_endpoint() -> dict[str, Any]:
    """An SGLangEndpoint `tiny`, whose engine is ready within seconds."""
    made: dict[str, Any] = yaml.safe_load(ENDPOINT.read_text())
    made["metadata"]["name"] = "tiny"
    made["spec"]["model"] = {"uri": f"hf://{TINY}"}
    made["spec"]["resources"]["memory"] = "4Gi"
    made["spec"]["upgrade"] = {"drainSeconds": DRAIN_SECONDS}
    return made


def administered(endpoint: dict[str, Any]) -> dict[str, Any]:
    """The endpoint with an admin key, for which admin_secret() must be there."""
    spec = endpoint["spec"]
    return {**endpoint, "spec": {**spec, "api": {**spec.get("api", {}), "adminKeySecret": ADMIN}}}


def admin_secret() -> dict[str, Any]:
    """Holds the admin key of administered()."""
    metadata = {"name": ADMIN["name"]}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {ADMIN["key"]: ADMIN_KEY}}


def engine_of(change: dict[str, Any]) -> dict[str, Any]:
    """A changed `spec.engine`. A list is replaced as a whole: the environment keeps what endpoint.yaml needs."""
    kept = yaml.safe_load(ENDPOINT.read_text())["spec"]["engine"]["env"]
    return {**change, "env": [*kept, *change.get("env", [])]}


def colored(color: str) -> dict[str, Any]:
    """An engine that differs in its environment only."""
    return engine_of({"env": [{"name": "COLOR", "value": color}]})


def put_tiny_model(models: Path) -> None:
    """The tiny model where the nodes mount their models from."""
    shutil.copytree(made_by("tiny_qwen2", find_engine_python()), models / TINY, dirs_exist_ok=True)
    for file in (models / TINY).iterdir():
        file.chmod(0o644)  # transformers writes weights for its own user only; pods are another


def tag_again(cluster: LocalCluster) -> str:
    """A second name of the serving image, which every node has then."""
    name = f"{serving_name()}-again"
    for node in cluster.nodes:
        run(*node.ctr, "images", "tag", "--force", serving_name(), name)
    return name
