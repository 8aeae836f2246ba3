"""A finding names field, value and remedy, and all findings come at once."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from unit.api_objects import endpoint, only_error, refused

from sglang_operator.api import parse_endpoint

QUOTES = "put it in quotes, as it is written in the file"  # YAML reads 1.10 as 1.1: what was written is lost
MIGRATED = ("InferenceService", "LLMInferenceService", "Model", "ModelDeployment", "RayService")
WORKER = "use spec.podTemplate.worker.spec."


class TestMessages:
    @pytest.mark.parametrize(
        ("spec", "path", "message", "remedy"),
        [
            ({"replica": 2}, "spec.replica", "unknown field", "did you mean spec.replicas?"),
            ({"image": "x"}, "spec.image", "unknown field", "did you mean spec.engine.image?"),
            (
                {"model": {"uri": "hf://a/b", "served_name": "x"}},
                "spec.model.served_name",
                "unknown field",
                "servedName?",
            ),
            ({"zzz": 1}, "spec.zzz", "unknown field", "use one of: replicas, scaling, paused"),
            ({"replicas": -1}, "spec.replicas", "must be at least 0", "use a number from 0 to 1000"),
            ({"replicas": 5000}, "spec.replicas", "must be at most 1000", "use a number from 0 to 1000"),
            ({"replicas": "2"}, "spec.replicas", "must be a whole number", "remove the quotes"),
            ({"replicas": 1.5}, "spec.replicas", "must be a whole number", "use a number from 0 to 1000"),
            ({"replicas": True}, "spec.replicas", "must be a whole number", "use a number from 0 to 1000"),
            (
                {"accelerator": {"count": -2}},
                "spec.accelerator.count",
                "must be at least 1",
                "use a number from 1 to 64",
            ),
            (
                {"accelerator": {"count": 0}},
                "spec.accelerator.count",
                "must be at least 1",
                "use a number from 1 to 64",
            ),
            ({"accelerator": {"vendor": "nvida"}}, "spec.accelerator.vendor", "one of nvidia, amd, cpu", '"nvidia"?'),
            (
                {"accelerator": []},
                "spec.accelerator",
                "must be a mapping",
                "accelerator: {}, or with some of its fields",
            ),
            ({"resources": {"memory": "64 GB"}}, "spec.resources.memory", "16Gi", "did you mean 64G or 64Gi?"),
            ({"resources": {"memory": "64GB"}}, "spec.resources.memory", "16Gi", "did you mean 64G or 64Gi?"),
            ({"resources": {"memory": "1.5gib"}}, "spec.resources.memory", "16Gi", "did you mean 1.5Gi?"),
            ({"resources": {"memory": "512kb"}}, "spec.resources.memory", "16Gi", "did you mean 512k or 512Ki?"),
            ({"resources": {"memory": "0GB"}}, "spec.resources.memory", "16Gi", "correct it: Host memory"),
            ({"resources": {"memory": "much"}}, "spec.resources.memory", "16Gi", "correct it: Host memory"),
            ({"scheduling": {"affinity": {}}}, "spec.scheduling.affinity", "unknown field", WORKER + "affinity"),
            ({"affinity": {}}, "spec.affinity", "unknown field", WORKER + "affinity"),
            (
                {"scheduling": {"runtimeClassName": "nvidia"}},
                "spec.scheduling.runtimeClassName",
                "unknown field",
                WORKER + "runtimeClassName",
            ),
            (
                {"scaling": {"max": 2, "cooldownSeconds": 60}},
                "spec.scaling.cooldownSeconds",
                "unknown field",
                "use spec.scaling.downscaleDelaySeconds, and",
            ),
            (
                {"podTemplate": {"spec": {}}},
                "spec.podTemplate.spec",
                "unknown field",
                "use spec.podTemplate.worker.spec",
            ),
            ({"initContainers": []}, "spec.initContainers", "unknown field", WORKER + "initContainers"),
            ({"hostNetwork": True}, "spec.hostNetwork", "unknown field", WORKER + "hostNetwork"),
            ({"network": {"hostNetwork": True}}, "spec.network.hostNetwork", "unknown", WORKER + "hostNetwork"),
            (
                {"engine": {"volumeMounts": []}},
                "spec.engine.volumeMounts",
                "unknown field",
                WORKER + "containers: [{name: ray-worker, volumeMounts: …}]",
            ),
            (
                {"model": {"uri": "hf://a/b", "quantization": "fp8"}},
                "spec.model.quantization",
                "unknown field",
                "use spec.engine.args.quantization",
            ),
            ({"resources": {"cpu": -1}}, "spec.resources.cpu", "greater than zero", "CPU cores"),
            ({"resources": {"cpu": 0}}, "spec.resources.cpu", "greater than zero", "CPU cores"),
            ({"resources": {"cpu": 0.5}}, "spec.resources.cpu", "must be text", QUOTES),
            ({"model": {}}, "spec.model.uri", "is required", "add spec.model.uri: Address of the model"),
            ({"model": {"uri": ""}}, "spec.model.uri", "must not be empty", "Address of the model"),
            ({"model": {"uri": "hf://a/b", "revision": 1.1}}, "spec.model.revision", "must be text", QUOTES),
            ({"model": {"uri": "hf://a/b", "revision": True}}, "spec.model.revision", "must be text", QUOTES),
            (
                {"api": {"allowAnonymous": "yes"}},
                "spec.api.allowAnonymous",
                "must be true or false",
                "write true or false",
            ),
            (
                {"api": {"route": {}}},
                "spec.api.route.parentRefs",
                "is required",
                "add spec.api.route.parentRefs: Gateways",
            ),
            ({"api": {"route": {"parentRefs": []}}}, "spec.api.route.parentRefs", "at least 1", "Gateways"),
            (
                {"api": {"route": {"parentRefs": [{"name": "g", "namespace": "a.b"}]}}},
                "spec.api.route.parentRefs[0].namespace",
                "must be lower-case letters, digits and '-'",
                "Namespace of the Gateway",
            ),
            ({"upgrade": {"drainSeconds": "15m"}}, "spec.upgrade.drainSeconds", "whole number", "write 900 (seconds)"),
            ({"upgrade": {"drainSeconds": "1h 30m"}}, "spec.upgrade.drainSeconds", "number", "write 5400 (seconds)"),
            ({"upgrade": {"drainSeconds": "soon"}}, "spec.upgrade.drainSeconds", "number", "number from 0 to 86400"),
            ({"upgrade": {"drainSeconds": ""}}, "spec.upgrade.drainSeconds", "number", "number from 0 to 86400"),
            (
                {"scaling": {"max": 2, "holdSeconds": "10m"}},
                "spec.scaling.holdSeconds",
                "must be a whole number",
                "write 600 (seconds)",
            ),
            (
                {"scaling": {"max": 2, "idleSecondsBeforeZero": "10m"}},
                "spec.scaling.idleSecondsBeforeZero",
                "must be a whole number",
                "write 600 (seconds)",
            ),
            (
                {"scheduling": {"tolerations": [{"key": "gpu"}, {"key": "gpu", "efect": "NoSchedule"}]}},
                "spec.scheduling.tolerations[1].efect",
                "unknown field",
                "did you mean spec.scheduling.tolerations[1].effect?",
            ),
            (
                {"api": {"route": {"parentRefs": [{"name": "g", "port": 443}]}, "allowAnonymous": True}},
                "spec.api.route.parentRefs[0].port",
                "unknown field",
                "use one of: name, namespace, sectionName",
            ),
            (
                {"model": {"uri": "hf://a/b", "lora": {"targetModules": ["q"]}}},
                "spec.model.lora.targetModules[0]",
                "must be one of all",
                "use one of them",
            ),
            (
                {"api": {"limits": {"maxBodyBytes": "16Mi"}}},
                "spec.api.limits.maxBodyBytes",
                "must be a whole number",
                "write 16777216 (bytes)",
            ),
            ({"api": {"limits": {"maxBodyBytes": "64 kB"}}}, "spec.api.limits.maxBodyBytes", "number", "write 64000"),
            (
                {"api": {"ingress": {"host": "https://A.example.com/v1"}, "allowAnonymous": True}},
                "spec.api.ingress.host",
                "must be a host name",
                "write a.example.com",
            ),
            (
                {"upgrade": {"strategy": "RollingUpdate"}},
                "spec.upgrade.strategy",
                "must be one of BlueGreen, Recreate",
                'use "BlueGreen"',
            ),
            (
                {"engine": {"env": [{"name": "A", "value": 1}]}},
                "spec.engine.env[0].value",
                "must be text",
                QUOTES,
            ),
            (
                {"scheduling": {"nodeSelector": {"a/b": 1}}},
                'spec.scheduling.nodeSelector["a/b"]',
                "text",
                QUOTES,
            ),
            (
                {"scheduling": {"nodeSelector": {"a b": "c"}}},
                'spec.scheduling.nodeSelector["a b"]',
                "letters",
                "Labels",
            ),
            ({"engine": {"args": {"x": datetime.date(2026, 1, 1)}}}, "spec.engine.args.x", "hold a date", "quotes"),
            ({"podTemplate": {"head": {"x": float("nan")}}}, "spec.podTemplate.head.x", "JSON cannot", "Patch"),
            ({"podTemplate": {"head": {"x": ["\ud800"]}}}, "spec.podTemplate.head.x", "JSON cannot", "Patch"),
        ],
    )
    def test_shape(self, spec: dict[str, Any], path: str, message: str, remedy: str) -> None:
        error = only_error(endpoint(**spec))
        assert error.path == path
        assert message in error.message
        assert remedy in error.remedy

    @pytest.mark.parametrize(
        ("uri", "remedy"),
        [
            ("hf://Qwen/Qwen3-8B@main", "write hf://Qwen/Qwen3-8B and spec.model.revision: main"),
            ("hf://Qwen/Qwen3-8B/", 'did you mean "hf://Qwen/Qwen3-8B"?'),
            ("https://huggingface.co/mistralai/Mistral-7B", 'did you mean "hf://mistralai/Mistral-7B"?'),
            ("huggingface.co/mistralai/Mistral-7B/", 'did you mean "hf://mistralai/Mistral-7B"?'),
            ("https://hf.co/o/m/tree/v1/sub", "write hf://o/m and spec.model.revision: v1"),
            ("https://example.com/o/m", "for example hf://Qwen/Qwen3-8B"),
            ("Qwen/Qwen3-8B", 'did you mean "hf://Qwen/Qwen3-8B"?'),
            ("/models/qwen", 'did you mean "file:///models/qwen"?'),
            ("hf://Qwen3-8B", "for example hf://Qwen/Qwen3-8B"),
            ("hf://org/llama:8b", "for example hf://Qwen/Qwen3-8B"),
            ("pvc://claim:8b/llama", "for example hf://Qwen/Qwen3-8B"),
            ("pvc://claim/llama:8b", "a path may hold no colon and no space; rename the directory"),
            ("s3://abc/my llama", "a path may hold no colon and no space; rename the directory"),
            ("file:///models/my llama", "a path may hold no colon and no space; rename the directory"),
            ("/models/llama:8b", "a path may hold no colon and no space; rename the directory"),
        ],
    )
    def test_model_address(self, uri: str, remedy: str) -> None:
        error = only_error(endpoint(model={"uri": uri}))
        assert error.path == "spec.model.uri"
        assert error.remedy.startswith(remedy)

    @pytest.mark.parametrize("port", ["0", "65536", "65540", "65600", "66000", "70000", "99999", "100000", "06379"])
    def test_a_port_of_redis_that_is_none(self, port: str) -> None:
        error = only_error(endpoint(highAvailability={"redis": {"address": f"redis:{port}"}}))
        assert error.path == "spec.highAvailability.redis.address"
        assert "must be <host>:<port>" in error.message

    @pytest.mark.parametrize("port", ["1", "6379", "10000", "59999", "64999", "65499", "65529", "65535"])
    def test_a_port_of_redis(self, port: str) -> None:
        parse_endpoint(endpoint(highAvailability={"redis": {"address": f"rediss://redis:{port}"}}))

    @pytest.mark.parametrize("name", ["a" * 39, "Qwen3", "3qwen", "qwen-", "qwen.3", "-qwen", "qwen3\n"])
    def test_name(self, name: str) -> None:
        bad = endpoint()
        bad["metadata"]["name"] = name
        error = only_error(bad)
        assert error.path == "metadata.name"
        assert "at most 38 characters" in error.message

    def test_longest_name(self) -> None:
        longest = endpoint()
        longest["metadata"]["name"] = "a" * 38
        assert parse_endpoint(longest).name == "a" * 38

    def test_tensor_parallelism_that_does_not_fit(self) -> None:
        error = only_error(endpoint(accelerator={"count": 4}, parallelism={"tensor": 3}))
        assert error.path == "spec.parallelism"
        assert error.value["tensor"] == 3
        assert "set spec.accelerator.count to 3 (now 4), or leave tensor out" in error.remedy

    def test_entries_twice(self) -> None:
        engine = {"env": [{"name": "A"}, {"name": "B"}, {"name": "A"}]}
        errors = refused(endpoint(engine=engine, accelerator={"products": ["H100", "H100"]}))
        assert [error.path for error in errors] == ["spec.accelerator.products[1]", "spec.engine.env[2]"]
