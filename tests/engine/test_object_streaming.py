"""A model whose weights SGLang reads from object storage itself: load_format runai_streamer over moto's S3 server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from bucket import BUCKET, bucket_with
from engine.apps import TINY_ENGINE, ServeApp, endpoint

GREEDY = {"prompt": "Hello", "max_tokens": 8, "temperature": 0, "ignore_eos": True}


@pytest.fixture(scope="module")
def storage(tiny_model: Path) -> Iterator[str]:
    """A bucket with the tiny model."""
    with bucket_with(tiny_model) as url:
        yield url


@pytest.mark.long
def test_the_engine_streams_the_weights(engine_python: Path, tiny_model: Path, storage: str, tmp_path: Path) -> None:
    env = {
        "AWS_ENDPOINT_URL": storage,
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "RUNAI_STREAMER_S3_USE_VIRTUAL_ADDRESSING": "0",
        "SGLANG_SERVE_OBJECTS_DIR": str(tmp_path / "objects"),
        "SGLANG_CACHE_DIR": str(tmp_path / "cache"),
    }
    manifest = endpoint(tiny_model, engine={"args": {**TINY_ENGINE, "load_format": "runai_streamer"}})
    manifest["spec"]["model"]["uri"] = f"s3://{BUCKET}/tiny"
    with ServeApp(manifest, engine_python, env=env) as streamed:
        said = completion(streamed)
    assert list(tmp_path.rglob("*.safetensors")) == [], "no copy on the disk"
    with ServeApp(endpoint(tiny_model), engine_python) as local:
        assert completion(local) == said


def completion(app: ServeApp) -> str:
    reply = httpx.post(f"{app.url}/v1/completions", json={"model": "tiny", **GREEDY}, timeout=60)
    assert reply.status_code == httpx.codes.OK, reply.text
    return str(reply.json()["choices"][0]["text"])
