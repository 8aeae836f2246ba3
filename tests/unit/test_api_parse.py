from __future__ import annotations

import contextlib
import copy
import datetime
import subprocess
import sys
from typing import Any

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.api_objects import endpoint, only_error, refused, well_formed_specs

from sglang_operator.api import Endpoint, InvalidEndpoint, parse_endpoint
from sglang_operator.api.other_tools import KINDS

QUOTES = "put it in quotes, as it is written in the file"  # YAML reads 1.10 as 1.1: what was written is lost
MIGRATED = ("InferenceService", "LLMInferenceService", "Model", "ModelDeployment", "RayService")
WORKER = "use spec.podTemplate.worker.spec."


def as_object(parsed: Endpoint) -> dict[str, Any]:
    return {
        "apiVersion": "serve.sglang.io/v1alpha1",
        "kind": "SGLangEndpoint",
        "metadata": {"name": parsed.name, "namespace": parsed.namespace, "uid": parsed.uid},
        "spec": parsed.spec.model_dump(mode="json", by_alias=True, exclude_none=True),
    }


class TestDefaults:
    def test_smallest_endpoint(self) -> None:
        parsed = parse_endpoint(endpoint())
        assert (parsed.name, parsed.namespace, parsed.uid, parsed.warnings) == ("qwen3", "default", "", ())
        assert parsed.spec.replicas == 1
        assert parsed.spec.model.served_name == "Qwen3-8B"
        assert parsed.spec.parallelism.tensor == 1
        assert parsed.spec.resources.cpu == "8"
        assert parsed.spec.resources.memory == "64Gi"

    def test_tensor_takes_the_accelerators_that_are_left(self) -> None:
        parsed = parse_endpoint(endpoint(accelerator={"count": 8}, parallelism={"pipeline": 2, "data": 2}))
        assert parsed.spec.parallelism.tensor == 2

    def test_host_resources_grow_with_the_accelerators(self) -> None:
        resources = parse_endpoint(endpoint(accelerator={"count": 8})).spec.resources
        assert (resources.cpu, resources.memory, resources.shared_memory) == ("64", "512Gi", "16Gi")

    def test_host_resources_as_written_stay(self) -> None:
        resources = parse_endpoint(endpoint(accelerator={"count": 8}, resources={"cpu": 12})).spec.resources
        assert (resources.cpu, resources.memory) == ("12", "512Gi")

    def test_cpu_fits_a_laptop(self) -> None:
        resources = parse_endpoint(endpoint(accelerator={"vendor": "cpu"})).spec.resources
        assert resources.model_dump() == {
            "cpu": "2",
            "memory": "6Gi",
            "shared_memory": "1Gi",
            "ephemeral_storage": "10Gi",
        }

    @pytest.mark.parametrize(
        ("uri", "name"),
        [("pvc://models/qwen/v2/", "v2"), ("pvc://models", "models"), ("file:///opt/models/qwen3", "qwen3")],
    )
    def test_served_name_is_the_last_part_of_the_address(self, uri: str, name: str) -> None:
        assert parse_endpoint(endpoint(model={"uri": uri})).spec.model.served_name == name

    def test_null_is_as_good_as_absent(self) -> None:
        written = endpoint(resources=None, replicas=None, api={"ingress": None, "service": None})
        assert parse_endpoint(written) == parse_endpoint(endpoint())

    def test_written_holds_no_computed_default(self) -> None:
        written = parse_endpoint(endpoint()).written
        assert written.parallelism.tensor is None
        assert written.resources.cpu is None
        assert written.model.served_name is None

    def test_status_and_foreign_metadata_are_not_our_business(self) -> None:
        live = endpoint() | {"status": {"anything": 1}}
        live["metadata"] |= {"uid": "u", "namespace": "team", "labels": {"a": "b"}, "managedFields": []}
        parsed = parse_endpoint(live)
        assert (parsed.uid, parsed.namespace) == ("u", "team")

    def test_frozen_to_the_bottom(self) -> None:
        parsed = parse_endpoint(endpoint(engine={"env": [{"name": "A"}]}))
        with pytest.raises(AttributeError):
            parsed.name = "other"  # type: ignore[misc]
        with pytest.raises(pydantic.ValidationError):
            parsed.spec.engine.env[0].value = "x"
        assert isinstance(parsed.spec.engine.env, tuple)

    def test_mappings_are_frozen_to_the_bottom(self) -> None:
        template = {"metadata": {"annotations": {"a": "b"}}, "spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}
        written = endpoint(
            engine={"args": {"mem_fraction_static": 0.8, "cuda_graph_bs_decode": [1, 2]}},
            scheduling={"nodeSelector": {"pool": "a"}},
            api={"service": {"annotations": {"a": "b"}}},
            podTemplate={"worker": template, "head": {}},
        )
        spec = parse_endpoint(written).spec
        worker: Any = spec.pod_template.worker
        empty = parse_endpoint(endpoint()).spec.engine.args
        volumes = worker["spec"]["volumes"]
        frozen: list[Any] = [spec.engine.args, spec.scheduling.node_selector, spec.api.service.annotations, empty]
        for part in [*frozen, worker, volumes[0]]:
            with pytest.raises(TypeError, match="copy it"):
                part["tp_size"] = 3
            with pytest.raises(TypeError, match="copy it"):
                part.update(tp_size=3)
        lists: list[Any] = [volumes, spec.engine.args["cuda_graph_bs_decode"]]
        for part in lists:
            with pytest.raises(TypeError, match="copy it"):
                part.append({})
        copied = copy.deepcopy(worker)
        copied["spec"]["volumes"].append({"name": "mine"})
        assert (worker, len(copied["spec"]["volumes"])) == (template, 2)


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

    def test_every_finding_at_once(self) -> None:
        errors = refused(endpoint(replicas=-1, model={"uri": 3}, unknown=1))
        assert [error.path for error in errors] == ["spec.replicas", "spec.model.uri", "spec.unknown"]

    @pytest.mark.parametrize(
        ("obj", "path"),
        [
            (None, "document"),
            ([], "document"),
            ({}, "kind"),
            ({"kind": ["Deployment"]}, "kind"),
            ({"kind": "Deployment", "apiVersion": "apps/v1"}, "kind"),
            ({"kind": "SGLangEndpoint", "apiVersion": "serve.sglang.io/v1"}, "apiVersion"),
        ],
    )
    def test_something_else_altogether(self, obj: Any, path: str) -> None:
        assert only_error(obj).path == path

    @pytest.mark.parametrize("kind", sorted({*KINDS, *MIGRATED}))
    def test_an_object_of_another_tool(self, kind: str) -> None:
        assert "docs/how-to/migrate.md" in only_error({"kind": kind}).remedy
        assert only_error({"kind": "Deployment"}).remedy == "write kind: SGLangEndpoint"

    def test_text_has_field_value_and_remedy(self) -> None:
        text = str(InvalidEndpoint(refused(endpoint(replicas=-1))))
        assert text.splitlines() == [
            "spec.replicas: must be at least 0 (found -1)",
            "  remedy: use a number from 0 to 1000",
        ]

    def test_namespace(self) -> None:
        bad = endpoint()
        bad["metadata"]["namespace"] = "my.team"
        assert only_error(bad).path == "metadata.namespace"

    @pytest.mark.parametrize("depth", [100, 400, 5000])
    def test_deep_documents(self, depth: int) -> None:
        nest: Any = 1
        for _ in range(depth):
            nest = [nest]
        obj = endpoint()
        obj["spec"] |= {"replicas": nest, "engine": {"args": {"numa_node": nest}}}
        assert "spec.replicas" in str(InvalidEndpoint(refused(obj)))

    def test_documents_that_contain_themselves(self) -> None:
        args: dict[str, Any] = {}
        args["again"] = args
        assert only_error(endpoint(engine={"args": args})).message == "contains itself, or is nested too deeply"
        loop = endpoint()
        loop["spec"]["model"] = loop["spec"]
        assert str(InvalidEndpoint(refused(loop)))


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates() | st.binary(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3),
    max_leaves=8,
)
_known = st.sampled_from(["spec", "model", "engine", "args", "env", "api", "parallelism", "podTemplate", "head", "uri"])


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    """A well-formed endpoint with one place replaced by anything."""
    obj: Any = endpoint(**draw(well_formed_specs))
    place = obj
    for name in draw(st.lists(_known, min_size=1, max_size=4)):
        if not isinstance(place.get(name), dict):
            break
        place = place[name]
    place[draw(_known)] = draw(_json)
    return obj


@given(_json | damaged())
@settings(max_examples=200, deadline=None)
def test_parsing_is_total(obj: Any) -> None:
    with contextlib.suppress(InvalidEndpoint):
        parse_endpoint(obj)
        return
    assert str(InvalidEndpoint(refused(obj)))


@given(well_formed_specs)
@settings(max_examples=100, deadline=None)
def test_parsing_what_was_parsed_changes_nothing(spec: dict[str, Any]) -> None:
    try:
        first = parse_endpoint(endpoint(**spec))
    except InvalidEndpoint:
        return
    again = parse_endpoint(as_object(first))
    assert again.spec == first.spec


def test_import_stays_light() -> None:
    """What `kubectl sglang render` pays before it starts; the table of engine arguments is read only when needed."""
    heavy = {"yaml", "jinja2", "kubernetes", "kopf", "click", "sglang_operator.api.crd"}
    program = (
        "import sys; from sglang_operator.api import parse_endpoint; from sglang_operator.api import engine_args;"
        f"parse_endpoint({endpoint()!r});"
        f"sys.exit(str(sorted({heavy!r} & sys.modules.keys()) + [engine_args.table.cache_info().currsize]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "[0]"
