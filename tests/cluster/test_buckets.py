"""A model from a bucket: pods fetch it with the credentials of a Secret, and a path that is wrong moves no traffic."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from bucket import BUCKET, bucket_with
from cluster.actors import Operator, User, load, somebody
from cluster.endpoints import GREEDY, TINY, administered, tiny_endpoint
from localcluster.cluster import LocalCluster

from sglang_operator.render.names import OBJECTS_DIR

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
pytestmark = [pytest.mark.timeout(1800), pytest.mark.long]


@pytest.fixture(scope="module")
def serving(cluster: LocalCluster, operator: Operator) -> Iterator[User]:
    """An endpoint of the model in the bucket."""
    del operator  # it runs
    with somebody(cluster, "buckets") as user, bucket_with(cluster.models / TINY, cluster.host) as url:
        user.run("apply", "--filename=-", stdin=json.dumps(secret({**CREDENTIALS, "AWS_ENDPOINT_URL": url})))
        user.make_admin_key()
        user.apply(endpoint())
        user.wait_for("Ready", "True", seconds=600)
        yield user


def secret(entries: dict[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bucket"}, "stringData": entries}


def model(path: str) -> dict[str, Any]:
    return {"uri": f"s3://{BUCKET}/{path}", "storageSecret": {"name": "bucket"}}


def endpoint() -> dict[str, Any]:
    """The tiny endpoint without the mirror that the others have."""
    made = administered(tiny_endpoint())
    made["spec"]["model"] = model("tiny")
    del made["spec"]["podTemplate"], made["spec"]["engine"]
    return made


def test_the_pods_fetch_it(serving: User) -> None:
    reply = httpx.post(f"{serving.url()}/v1/completions", json=GREEDY, timeout=120)
    assert reply.status_code == 200, reply.text
    assert reply.json()["usage"]["completion_tokens"] == 8
    (worker,) = serving.workers()
    listed = serving.run("exec", worker, "--container=ray-worker", "--", "find", OBJECTS_DIR, "-name", "*.safetensors")
    assert BUCKET in listed or "tiny" in listed, listed
    assert "secret" not in serving.run("logs", worker, "--container=ray-worker")


def test_a_path_that_is_not_there_moves_no_traffic(serving: User) -> None:
    before = serving.serving
    serving.slow_down()
    with load(serving.url()) as working:
        serving.edit("model", model("absent"))
        degraded = serving.wait_for("Degraded", "True", "RevisionFailing", 600)
        assert "ModelNotFound" in degraded["message"]
        assert "s3://models/absent" in json.dumps(serving.status["revisions"])
        serving.edit("model", model("tiny"))
        serving.wait_for("Degraded", "False")
    assert working.count.lost == [], str(working.count)
    assert serving.serving == before
