"""Engine arguments against other fields: what SGLang ends at is refused, what is merely slow is said."""

from __future__ import annotations

from typing import Any

import pytest
from unit.api_objects import endpoint

from sglang_operator.api import FieldError, InvalidEndpoint, parse_endpoint
from sglang_operator.api.combinations import INGRESS_CLASS
from sglang_operator.api.environment import ALWAYS, BY_VENDOR
from sglang_operator.cluster.findings import accepted
from sglang_operator.render.environment import worker_environment

RDMA = {"rdma": {"resourceName": "rdma/shared"}}


def spread(args: dict[str, Any] | None = None, network: dict[str, Any] | None = None, **parallelism: int) -> Any:
    engine = {"args": args or {}}
    return endpoint(accelerator={"count": 8}, parallelism=parallelism, engine=engine, network=network or {})


@pytest.mark.parametrize(
    ("obj", "path"),
    [
        (spread({"enable_lora": True}, data=2), "spec.engine.args.enable_lora"),
        (spread({"speculative_algorithm": "EAGLE3"}, pipeline=2), "spec.engine.args.speculative_algorithm"),
        (spread({"speculative_algorithm": "NGRAM"}, pipeline=2), "spec.engine.args.speculative_algorithm"),
    ],
)
def test_what_sglang_ends_at_is_refused(obj: Any, path: str) -> None:
    with pytest.raises(InvalidEndpoint) as found:
        parse_endpoint(obj)
    assert [error.path for error in found.value.errors] == [path]
    assert "parallelism" in str(found.value) or "stages" in str(found.value)


@pytest.mark.parametrize(
    "obj",
    [
        spread({"enable_lora": True}),
        spread({"enable_lora": True, "lora_paths": ["a=/a"]}, data=2),
        spread({"speculative_algorithm": "EAGLE"}, pipeline=2),
        spread({"speculative_algorithm": "NGRAM"}, data=2),
        spread(network=RDMA, nodes=2),
        endpoint(accelerator={"vendor": "cpu"}, parallelism={"nodes": 2}),
    ],
)
def test_what_works_passes_without_a_word(obj: Any) -> None:
    assert parse_endpoint(obj).warnings == ()


@pytest.mark.parametrize(
    ("pipeline", "message", "remedy"),
    [(1, "every layer of every token", "parallelism.pipeline: 2"), (2, "stages on 2 nodes", "RDMA devices")],
)
def test_nodes_without_rdma_are_told_what_it_costs(pipeline: int, message: str, remedy: str) -> None:
    (warning,) = parse_endpoint(spread(pipeline=pipeline, nodes=2)).warnings
    assert warning.path == "spec.network.rdma"
    assert message in warning.message
    assert remedy in warning.remedy
    assert message in accepted(frozenset(), wants_route=False, warnings=(warning,)).message


ON_HOST: dict[str, Any] = {"spec": {"hostNetwork": True}}


@pytest.mark.parametrize(("part", "other"), [("head", "worker"), ("worker", "head")])
def test_a_pod_on_its_nodes_network_is_no_pod_to_the_policy(part: str, other: str) -> None:
    (warning,) = parse_endpoint(endpoint(podTemplate={part: ON_HOST})).warnings
    assert warning.path == f"spec.podTemplate.{part}.spec.hostNetwork"
    assert f"reaches no {other} on another node" in warning.message
    assert "CIDR of the nodes" in warning.remedy
    assert "serve.sglang.io/endpoint" in warning.remedy


@pytest.mark.parametrize(
    "patches",
    [
        {"worker": ON_HOST, "head": ON_HOST},
        {"worker": {"spec": {"hostNetwork": False}}},
        {"worker": {"spec": {"hostNetwork": None}}},
        {"worker": {"spec": None}},
        {"worker": {"metadata": {"labels": {"a": "b"}}}},
    ],
)
def test_pods_that_reach_each_other_are_not_warned_of(patches: dict[str, Any]) -> None:
    assert parse_endpoint(endpoint(podTemplate=patches)).warnings == ()


@pytest.mark.parametrize("uri", ["hf://Qwen/Qwen3-8B-GGUF", "hf://o/m-gguf", "s3://abc/m/q4.gguf", "file:///m/a.GGUF/"])
def test_a_model_called_gguf(uri: str) -> None:
    (warning,) = parse_endpoint(endpoint(model={"uri": uri})).warnings
    assert warning.path == "spec.model.uri"
    assert "not served yet" in warning.message
    assert "safetensors" in warning.remedy


@pytest.mark.parametrize(
    "image",
    [
        "lmsysorg/sglang:v0.5.23",
        "docker.io/lmsysorg/sglang:v0.5.23-rocm724-mi30x",
        "index.docker.io/lmsysorg/sglang",
        "lmsysorg/sglang@sha256:1",
        "rocm/sgl-dev:v0.5.23-rocm724-mi35x",
        "debian:bookworm-slim",
    ],
)
def test_an_image_that_serving_images_are_built_from(image: str) -> None:
    (warning,) = parse_endpoint(endpoint(engine={"image": image})).warnings
    assert (warning.path, warning.value) == ("spec.engine.image", image)
    assert "neither Ray Serve nor sglang_serve" in warning.message
    assert "docs/how-to/build-images.md" in warning.remedy


@pytest.mark.parametrize("image", ["mine/sglang:1", "registry:5000/lmsysorg/sglang:mine", "lmsysorg/sglang-serve", ""])
def test_an_image_that_may_be_a_serving_image(image: str) -> None:
    assert parse_endpoint(endpoint(engine={"image": image})).warnings == ()


@pytest.mark.parametrize("name", ["load_format", "quantization"])
@pytest.mark.parametrize("engine", [{}, {"image": "mine:1", "argsCheck": "Warn"}])
def test_gguf_is_refused_whatever_the_image(name: str, engine: dict[str, Any]) -> None:
    (error,) = refused(endpoint(engine={"args": {name: "gguf"}, **engine}))
    assert error.path == f"spec.engine.args.{name}"
    assert "not served yet" in error.message
    assert "safetensors" in error.remedy


@pytest.mark.parametrize(
    ("size", "meant"),
    [(64, "64Gi"), ("64", "64Gi"), ("64m", "64Gi"), ("1.5M", "1.5Gi"), ("63Mi", "63Gi"), ("8Ki", "8Gi")],
)
def test_a_size_without_its_unit(size: Any, meant: str) -> None:
    (memory,) = refused(endpoint(resources={"memory": size}))
    (cache,) = refused(endpoint(model={"uri": "hf://a/b", "cache": {"size": size}}))
    assert (memory.path, cache.path) == ("spec.resources.memory", "spec.model.cache.size")
    assert memory.remedy == cache.remedy == f"did you mean {meant}?"


@pytest.mark.parametrize(
    "spec",
    [{"head": {"memory": 4}}, {"resources": {"sharedMemory": 16}}, {"resources": {"ephemeralStorage": 50}}],
    ids=str,
)
def test_no_size_is_taken_without_its_unit(spec: dict[str, Any]) -> None:
    ((part, values),) = spec.items()
    ((name, number),) = values.items()
    (error,) = refused(endpoint(**spec))
    assert (error.path, error.remedy) == (f"spec.{part}.{name}", f"did you mean {number}Gi?")


@pytest.mark.parametrize("size", ["64Mi", 67_108_864, "0.1Gi", "68M", "300Mi"])
def test_a_size_that_is_small_and_not_absurd(size: Any) -> None:
    resources = {"memory": size, "cpu": 1, "sharedMemory": "64Mi"}
    parse_endpoint(endpoint(resources=resources, model={"uri": "hf://a/b", "cache": {"size": size}}))


@pytest.mark.parametrize(
    ("resources", "shared"),
    [({"memory": "8Gi"}, "16Gi"), ({"memory": "32Gi", "sharedMemory": "64Gi"}, "64Gi")],
)
def test_shared_memory_is_a_part_of_memory(resources: dict[str, Any], shared: str) -> None:
    (warning,) = parse_endpoint(endpoint(resources=resources)).warnings
    assert (warning.path, warning.value) == ("spec.resources.sharedMemory", shared)
    assert "OOMKilled" in warning.message
    assert not parse_endpoint(endpoint(resources={**resources, "sharedMemory": "2Gi"})).warnings


@pytest.mark.parametrize("image", ["registry/own:1 ", "registry/own: 1", "registry/own:1\n"])
def test_white_space_in_an_image(image: str) -> None:
    (error,) = refused(endpoint(engine={"image": image}))
    assert (error.path, error.message) == (
        "spec.engine.image",
        "must be an image: names between single slashes, without white space and scheme",
    )


@pytest.mark.parametrize("scheme", ["https", "docker"])
def test_a_scheme_before_an_image(scheme: str) -> None:
    """The kubelet calls it InvalidImageName."""
    (error,) = refused(endpoint(engine={"image": f"{scheme}://registry:5000/own:1"}))
    assert (error.path, error.remedy) == ("spec.engine.image", "write registry:5000/own:1")


def test_adapters_need_an_accelerator() -> None:
    model = {"uri": "hf://a/b", "lora": {}}
    (warning,) = parse_endpoint(endpoint(model=model, accelerator={"vendor": "cpu"})).warnings
    assert warning.path == "spec.model.lora"
    assert "page-locked memory" in warning.message
    assert parse_endpoint(endpoint(model=model)).warnings == ()


DECOMPRESSION = "SGLANG_ENABLE_REQUEST_DECOMPRESSION"


class TestEnvironment:
    def test_what_has_no_effect_is_said(self) -> None:
        names = ("HF_HOME", "MINE", "RAY_SERVE_HAPROXY_RETRY_ON", "RAY_SERVE_HAPROXY_MAXCONN")
        warnings = warned(*names)
        assert [warning.path for warning in warnings] == ["spec.engine.env[0].name", "spec.engine.env[2].name"]
        assert "has no effect" in warnings[0].message
        assert "has no effect" in accepted(frozenset(), wants_route=False, warnings=warnings).message

    def test_a_token_only_where_the_spec_names_one(self) -> None:
        assert warned("HF_TOKEN") == ()
        assert warned("HF_TOKEN", model={"uri": "hf://a/b", "tokenSecret": {"name": "s", "key": "k"}})

    def test_what_ray_does_not_start_under(self) -> None:
        (warning,) = warned("ROCR_VISIBLE_DEVICES", accelerator={"vendor": "amd"})
        assert "Ray refuses" in warning.message
        assert warned("ROCR_VISIBLE_DEVICES") == ()

    @pytest.mark.parametrize("value", ["1", "True", "yes", "Y"])
    def test_what_makes_a_small_body_large(self, value: str) -> None:
        (warning,) = parse_endpoint(endpoint(engine={"env": [{"name": DECOMPRESSION, "value": value}]})).warnings
        assert warning.path == "spec.engine.env[0].name"
        assert "spec.api.limits.maxBodyBytes" in warning.message
        assert "remove it" in warning.remedy

    def test_what_makes_one_large_for_all_that_is_known(self) -> None:
        source = {"configMapKeyRef": {"name": "c", "key": "k"}}
        (warning,) = parse_endpoint(endpoint(engine={"env": [{"name": DECOMPRESSION, "valueFrom": source}]})).warnings
        assert warning.path == "spec.engine.env[0].name"

    @pytest.mark.parametrize("value", ["0", "false", "No", "n"])
    def test_what_leaves_bodies_as_they_are(self, value: str) -> None:
        assert parse_endpoint(endpoint(engine={"env": [{"name": DECOMPRESSION, "value": value}]})).warnings == ()

    @pytest.mark.parametrize(
        "name", ["MY_TOKEN", "PROXY_PASSWORD", "CLIENT_SECRET", "WANDB_API_KEY", "AWS_ACCESS_KEY_ID"]
    )
    def test_a_secret_that_everybody_can_read(self, name: str) -> None:
        (warning,) = parse_endpoint(endpoint(engine={"env": [{"name": name, "value": "hunter2"}]})).warnings
        assert warning.path == "spec.engine.env[0].value"
        assert "valueFrom: {secretKeyRef: " in warning.remedy
        assert "hunter2" not in str(warning)

    @pytest.mark.parametrize(
        "variable",
        [
            {"name": "MY_TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            {"name": "MY_TOKEN"},
            {"name": "TOKENIZERS_PARALLELISM", "value": "false"},
            {"name": "MAX_TOKENS", "value": "many"},
            {"name": "TOKEN_LIMIT", "value": "512"},
            {"name": "AWS_WEB_IDENTITY_TOKEN_FILE", "value": "/var/run/token"},
        ],
    )
    def test_a_variable_that_is_no_secret(self, variable: dict[str, Any]) -> None:
        assert parse_endpoint(endpoint(engine={"env": [variable]})).warnings == ()

    @pytest.mark.parametrize("vendor", ["nvidia", "amd", "cpu"])
    def test_the_list_is_what_the_renderer_sets(self, vendor: str) -> None:
        parsed = parse_endpoint(endpoint(accelerator={"vendor": vendor}))
        assert set(worker_environment(parsed)) - {"MAX_JOBS"} == ALWAYS | BY_VENDOR[vendor]  # the user's counts


def warned(*names: str, **spec: Any) -> tuple[FieldError, ...]:
    return parse_endpoint(endpoint(engine={"env": [{"name": name} for name in names]}, **spec)).warnings


def refused(obj: Any) -> tuple[FieldError, ...]:
    with pytest.raises(InvalidEndpoint) as found:
        parse_endpoint(obj)
    return found.value.errors


@pytest.mark.parametrize(
    ("ingress", "is_warned"),
    [
        ({"className": "nginx", "annotations": {INGRESS_CLASS: "traefik"}}, True),
        ({"className": "nginx", "annotations": {INGRESS_CLASS: "nginx"}}, False),
        ({"annotations": {INGRESS_CLASS: "traefik"}}, False),
        ({"className": "nginx"}, False),
    ],
)
def test_two_classes_of_an_ingress(ingress: dict[str, Any], *, is_warned: bool) -> None:
    """A warning: what serves with both since before was taken, and keeps them."""
    found = parse_endpoint(endpoint(api={"allowAnonymous": True, "ingress": ingress})).warnings
    assert [one.path for one in found] == ["spec.api.ingress.className"] * is_warned
