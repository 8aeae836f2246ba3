"""What an endpoint is once it is parsed: computed defaults, frozen to the bottom, and total on any document."""

from __future__ import annotations

import contextlib
import copy
import subprocess
import sys
from typing import Any

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.api_objects import endpoint, refused, well_formed_specs

from sglang_operator.api import Endpoint, InvalidEndpoint, parse_endpoint


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
