"""What findings show of another shape than a field has: what to write instead, and no secret."""

from __future__ import annotations

from typing import Any

import pytest
from unit.api_objects import endpoint, of_model, only_error

from sglang_operator.api import InvalidEndpoint, parse_endpoint


@pytest.mark.parametrize(
    ("spec", "remedy"),
    [
        ({"model": "hf://a/b"}, "write model: {uri: hf://a/b}"),
        ({"model": [{"uri": "hf://a/b"}]}, "write model: {uri: hf://a/b}"),
        (of_model(tokenSecret="hf"), "write tokenSecret: {name: hf, key: token}"),
        (of_model(tokenSecret=True), "write tokenSecret: {name: <name>, key: token}"),
        (of_model(cache=True), "write cache: {}, or with some of its fields: claimName, size"),
        (of_model(cache=False), "leave cache out"),
        (of_model(cache="100Gi"), 'write cache: {size: "100Gi"}'),
        (of_model(lora={}, adapters={"sql": "hf://a/b"}), "write adapters: [{name: sql, uri: hf://a/b}]"),
        ({"api": {"keysSecret": "my-keys"}}, "write keysSecret: {name: my-keys}"),
        ({"api": {"adminKeySecret": "admin"}}, "write adminKeySecret: {name: admin, key: adminKey}"),
        ({"api": {"ingress": {"tls": True}}}, "write tls: {}, or with some of its fields: secretName"),
        ({"api": {"ingress": {"tls": "own-tls"}}}, "write tls: {secretName: own-tls}"),
        ({"api": {"route": "gateway"}}, "write route: {parentRefs: [{name: gateway}]}"),
        ({"api": {"route": {"parentRefs": {"name": "g"}}}}, "write parentRefs: [{name: g}]"),
        (
            {"api": {"route": {"parentRefs": [{"name": "g"}], "hostnames": "a.example.com"}}},
            "write hostnames: [a.example.com]",
        ),
        ({"highAvailability": {"redis": "host:6379"}}, "write redis: {address: host:6379}"),
        ({"network": {"rdma": True}}, "write rdma: {resourceName: rdma/hca_shared_devices_a}"),
        ({"accelerator": 4}, "write accelerator: {count: 4}"),
        ({"accelerator": "nvidia"}, "write accelerator: {vendor: nvidia}"),
        ({"accelerator": {"products": "H100, H200"}}, "write products: [H100, H200]"),
        ({"scaling": 4}, "write scaling: {max: 4}"),
        ({"scheduling": {"nodeSelector": "gpu=true"}}, 'write nodeSelector: {gpu: "true"}'),
        ({"engine": {"imagePullSecrets": ["registry"]}}, "write {name: registry}"),
        ({"engine": {"imagePullSecrets": "registry"}}, "write imagePullSecrets: [{name: registry}]"),
        ({"engine": {"env": {"FOO": "bar"}}}, "write env: [{name: FOO, value: …}]"),
        ({"engine": {"env": {"FOO": 1, "BAR": True}}}, "write env: [{name: FOO, value: …}, {name: BAR, value: …}]"),
        ({"engine": {"env": {"name": "FOO", "value": "no"}}}, "write env: [{name: FOO, value: …}]"),
        ({"engine": {"env": ["FOO=bar"]}}, "write {name: FOO, value: …}"),
        ({"engine": {"env": dict.fromkeys("ABCDE", "x")}}, "write env: [{name: A, value: …}, {name: B"),
        (
            {"engine": {"args": ["--mem-fraction-static=0.8", "--page-size 1", "--sleep-on-idle"]}},
            "write args: {mem_fraction_static: 0.8, page_size: 1, sleep_on_idle: true}",
        ),
        (
            {"engine": {"args": ["--max-running-requests", "64", "--dtype=half", "--page-size", 1, "--sleep-on-idle"]}},
            "write args: {max_running_requests: 64, dtype: half, page_size: 1, sleep_on_idle: true}",
        ),
        ({"scheduling": {"tolerations": "gpu"}}, "write tolerations: [{}], with some of its fields: key, operator"),
        ({"scheduling": {"tolerations": ["gpu"]}}, "write {}, with some of its fields: key, operator"),
        ({"api": {"allowFrom": "team-a"}}, "write allowFrom: [{}], with some of its fields: podSelector"),
        (
            {"api": {"allowFrom": {"namespaceSelector": {"matchLabels": {"team": "a"}}}}},
            "write allowFrom: [{namespaceSelector: {matchLabels: {team: a}}}]",
        ),
        ({"api": {"allowFrom": [{"ipBlock": "10.0.0.0/8"}]}}, 'write ipBlock: {cidr: "10.0.0.0/8"}'),
        ({"engine": {"env": {"A": "x y" * 999}}}, "write env: [{name: A, value: …}]"),
        ({"engine": {"args": "fast"}}, "write args: {mem_fraction_static: 0.85}"),
        ({"podTemplate": {"worker": []}}, "write worker: {<name>: <value>}"),
    ],
    ids=str,
)
def test_another_shape(spec: dict[str, Any], remedy: str) -> None:
    assert only_error(endpoint(**spec)).remedy.startswith(remedy)


@pytest.mark.parametrize("text", ["key" * 50_000, "a" * 100_000, "--" * 50_000, "://a" * 50_000, "9" * 5000 + "s"])
def test_a_long_text_takes_no_time(text: str) -> None:
    """Anybody's endpoint is read on the event loop of all: patterns without bounds took hours."""
    for spec in (
        {"engine": {"args": {"foo": text}}},
        {"scaling": {"upscaleDelaySeconds": text}},
        {"scaling": [text]},
    ):
        with pytest.raises(InvalidEndpoint) as caught:
            parse_endpoint(endpoint(**spec))
        assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("spec", "remedy"),
    [
        (of_model(token="hf_hunter2"), "use spec.model.tokenSecret: {name: …, key: …}"),
        (of_model(hfToken="hunter2"), "use spec.model.tokenSecret: {name: …, key: …}"),
        (of_model(tokenSecret="hf_hunter2"), "write tokenSecret: {name: <name>, key: token}"),
        (of_model(tokenSecret={"name": "hf", "key": "token", "value": "hunter2"}), "remove it, or use one of"),
        ({"api": {"apiKey": "sk-hunter2"}}, "use spec.api.keysSecret: {name: …}"),
        ({"api": {"apiKeys": ["hunter2"]}}, "use spec.api.keysSecret: {name: …}"),
        ({"api": {"auth": {"apiKey": "hunter2"}}}, "remove it"),
        (
            {"highAvailability": {"redis": {"address": "r:1", "password": "hunter2"}}},
            "use spec.highAvailability.redis.passwordSecret: {name: …, key: …}",
        ),
        ({"highAvailability": {"redis": {"address": "redis://:hunter2@h:6379"}}}, ""),
        ({"highAvailability": {"redis": "redis://:hunter2@h:6379"}}, "write redis: {address: "),
        (of_model(uri="https://user:hunter2@huggingface.co/a/b"), ""),
        (of_model(uri="https://b.example.com/m?X-Amz-Signature=hunter2"), ""),
        ({"engine": {"env": {"DB_PASS": "hunter2"}}}, "write env: [{name: DB_PASS, value: …}]"),
        ({"engine": {"env": "DB_PASS=hunter2"}}, "write env: [{name: DB_PASS, value: …}]"),
        ({"engine": {"args": {"hub_token": "hunter2"}}}, "`kubectl sglang args`"),
        ({"engine": {"args": {"dtype": "hf_hunter2"}}}, "use one of"),
        ({"engine": {"args": ["--api-key=hunter2"]}}, "write args: {api_key: …}"),
        ({"engine": {"args": ["--api-key", "hunter2"]}}, "write args: {api_key: …}"),
        ({"engine": {"args": ["--api-key", "hunter2", "--api-key"]}}, "write args: {api_key: "),
        ({"engine": {"args": "--api-key hunter2 --tp 2"}}, "write args: {mem_fraction_static: 0.85}"),
        ({"engine": {"env": "HF_TOKEN=hunter2"}}, "write env: [{name: HF_TOKEN, valueFrom: {secretKeyRef: "),
        ({"engine": {"env": {"name": "HF_TOKEN", "value": "hunter2"}}}, "write env: [{name: HF_TOKEN, value: …}]"),
        ({"engine": {"env": {"HF_TOKEN": "hunter2"}}}, "write env: [{name: HF_TOKEN, valueFrom: {secretKeyRef: "),
        ({"engine": {"env": ["HF_TOKEN=hunter2"]}}, "write {name: HF_TOKEN, valueFrom: {secretKeyRef: "),
        ({"engine": {"env": [{"name": "HF_TOKEN", "vaule": "hunter2"}]}}, "did you mean spec.engine.env[0].value?"),
        ({"engine": {"env": [{"name": "A", "value": ["hunter2"]}]}}, "correct it"),
    ],
    ids=str,
)
def test_a_secret_is_not_repeated(spec: dict[str, Any], remedy: str) -> None:
    error = only_error(endpoint(**spec))
    assert "hunter2" not in str(error)
    assert error.remedy.startswith(remedy)


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        (of_model(tokenSecrets={"name": "hf", "key": "token"}), '{"name": "hf", "key": "token"}'),
        ({"api": {"keysSecret": "my-keys"}}, '"my-keys"'),
        ({"scaling": {"max": 1, "targetTokens": 5}}, "5"),
        ({"engine": {"args": {"tokenizr_path": "x"}}}, '"x"'),
        ({"scheduling": {"toleration": {"key": "gpu"}}}, '{"key": "gpu"}'),
    ],
    ids=str,
)
def test_what_is_no_secret_is_shown(spec: dict[str, Any], found: str) -> None:
    assert f"(found {found})" in str(only_error(endpoint(**spec)))
