from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from unit.api_objects import endpoint

from sglang_operator.api import InvalidEndpoint, parse_endpoint
from sglang_operator.api.crd import crd, crd_yaml
from sglang_operator.api.reference import api_page, engine_args_page

ROOT = Path(__file__).parents[2]
CRD = ROOT / "crds" / "serve.sglang.io_sglangendpoints.yaml"
SCHEMA: dict[str, Any] = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
# https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema
STRUCTURAL_KEYS = {
    *("type", "description", "default", "properties", "required", "items", "additionalProperties", "enum", "format"),
    *("pattern", "minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems", "maxProperties", "anyOf"),
    *("x-kubernetes-validations", "x-kubernetes-list-type", "x-kubernetes-list-map-keys"),
    *("x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields"),
}


def fields(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every named field below `schema` with its path."""
    for name, part in schema.get("properties", {}).items():
        yield f"{path}.{name}".lstrip("."), part
        yield from fields(part.get("items", part), f"{path}.{name}")


def nodes(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield schema
    for part in [*schema.get("properties", {}).values(), schema.get("items"), schema.get("additionalProperties")]:
        if part:
            yield from nodes(part)


@pytest.mark.parametrize(
    ("path", "generated"),
    [
        (CRD, crd_yaml),
        (ROOT / "docs" / "reference" / "api.md", api_page),
        (ROOT / "docs" / "reference" / "engine-args.md", engine_args_page),
    ],
    ids=lambda value: value.name if isinstance(value, Path) else "",
)
def test_committed_file_is_what_the_models_say(path: Path, generated: Any) -> None:
    assert path.read_text(encoding="utf-8") == generated(), f"{path.name} is stale: run `make crds` and read the diff"


def test_small_enough_to_apply() -> None:
    assert CRD.stat().st_size <= 100_000


def test_kubernetes_knows_it_as_a_definition() -> None:
    kubernetes_validate.validate(yaml.safe_load(CRD.read_text(encoding="utf-8")), "1.36", strict=True)


def test_structural() -> None:
    for node in nodes(SCHEMA):
        assert set(node) <= STRUCTURAL_KEYS, node
        free = node.get("x-kubernetes-int-or-string") or node.get("x-kubernetes-preserve-unknown-fields")
        assert "type" in node or free, node
        assert "anyOf" not in node or node.get("x-kubernetes-int-or-string"), node
        assert not ("properties" in node and "additionalProperties" in node), node


def test_lists_maps_and_texts_are_bounded_or_no_rule_would_be_affordable() -> None:
    for path, part in fields(SCHEMA["properties"]["spec"]):
        if part.get("type") == "array":
            assert "maxItems" in part, path
        if part.get("type") == "string" and "enum" not in part:
            assert "maxLength" in part, path


def test_every_field_is_described_with_its_default() -> None:
    for path, part in fields(SCHEMA["properties"]["spec"]):
        description = part.get("description", "")
        assert description.endswith("."), path
        assert "Default" in description or "Required" in description, path
        assert len(description) > len("Default none."), path


def test_schema_less_only_in_the_two_places_that_are_allowed() -> None:
    free = {
        path for path, part in fields(SCHEMA) if any(n.get("x-kubernetes-preserve-unknown-fields") for n in nodes(part))
    }
    leaves = {path for path in free if not any(other.startswith(f"{path}.") for other in free)}
    assert leaves == {"spec.engine.args", "spec.podTemplate.head", "spec.podTemplate.worker"}


def outside_lists(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from outside_lists(part, f"{path}.{name}")


def test_no_defaults_that_would_hide_what_the_user_wrote() -> None:
    """An API server writes them into each object; platform defaults go under what the user wrote, and nothing else."""
    assert [path for path, part in outside_lists(SCHEMA, "") if "default" in part] == [".spec.replicas"]
    assert SCHEMA["properties"]["spec"]["properties"]["replicas"]["default"] == 1


def test_names_subresources_and_columns() -> None:
    spec = crd()["spec"]
    version = spec["versions"][0]
    assert (spec["group"], version["name"], spec["names"]["shortNames"]) == ("serve.sglang.io", "v1alpha1", ["sgl"])
    assert spec["names"]["categories"] == ["sglang"]
    assert version["subresources"]["scale"]["specReplicasPath"] == ".spec.replicas"
    columns = [column["name"] for column in version["additionalPrinterColumns"]]
    assert columns == ["Ready", "Reason", "Model", "Replicas", "Serving", "Age", "URL", "Message"]


@pytest.mark.parametrize("path", ["accelerator.vendor", "parallelism.nodes", "network.rdma"])
def test_what_no_hardware_ran_says_so(path: str) -> None:
    described = {name: part["description"] for name, part in fields(SCHEMA["properties"]["spec"])}
    assert "not yet run on hardware by the project" in described[path].lower()


def unit_of(name: str, part: dict[str, Any]) -> tuple[str, ...]:
    """Words of which the description of a measured field has one; () for what is not measured."""
    if name.endswith("Seconds"):
        return ("seconds",)
    if name.endswith("Bytes"):
        return ("bytes",)
    return ("bytes", "cores") if part.get("x-kubernetes-int-or-string") else ()


def test_every_measured_field_names_its_unit() -> None:
    measured = {path: units for path, part in fields(SCHEMA) if (units := unit_of(path, part))}
    described = {path: part.get("description", "").lower() for path, part in fields(SCHEMA)}
    assert {"spec.upgrade.drainSeconds", "spec.head.memory", "status.lastWakeSeconds"} <= measured.keys()
    assert [path for path, units in measured.items() if not any(unit in described[path] for unit in units)] == []


def both_verdicts(obj: Any) -> tuple[bool, bool]:
    """(accepted by the CRD's schema, accepted offline)."""
    try:
        parse_endpoint(copy.deepcopy(obj))
        offline = True
    except InvalidEndpoint:
        offline = False
    return jsonschema.Draft202012Validator(SCHEMA).is_valid(obj), offline


@pytest.mark.parametrize(
    ("spec", "accepted"),
    [
        ({}, True),
        ({"replicas": 0}, True),
        ({"replicas": -1}, False),
        ({"replicas": "1"}, False),
        ({"replicas": 1001}, False),
        ({"accelerator": {"vendor": "cpu", "count": 64}}, True),
        ({"accelerator": {"vendor": "cpu", "count": 65}}, False),
        ({"accelerator": {"vendor": "intel"}}, False),
        ({"accelerator": {"resourceName": "nvidia.com/mig-1g.10gb"}}, True),
        ({"accelerator": {"resourceName": "gpu"}}, False),
        ({"resources": {"cpu": 4}}, True),
        ({"resources": {"cpu": "500m", "memory": "1.5Gi"}}, True),
        ({"resources": {"cpu": 0}}, False),
        ({"resources": {"cpu": "0.0"}}, False),
        ({"resources": {"cpu": "0.05"}}, True),
        ({"resources": {"cpu": -1}}, False),
        ({"resources": {"cpu": 0.5}}, False),
        ({"resources": {"memory": "64GB"}}, False),
        ({"scheduling": {"tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}]}}, True),
        ({"scheduling": {"nodeSelector": {"a": "b c"}}}, False),
        ({"engine": {"args": {"mem_fraction_static": 0.8}}}, True),
        ({"engine": {"env": [{"name": "1A"}]}}, False),
        ({"engine": {"env": [{"value": "a"}]}}, False),
        ({"engine": {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "a/b"}}}]}}, False),
        ({"api": {"service": {"port": 0}}}, False),
        ({"api": {"ingress": {"host": "*.example.org", "path": "/llm"}, "allowAnonymous": True}}, True),
        ({"api": {"ingress": {"path": "llm"}, "allowAnonymous": True}}, False),
        ({"api": {"route": {"parentRefs": []}, "allowAnonymous": True}}, False),
        ({"api": {"limits": {"maxBodyBytes": 100}}}, False),
        ({"api": {"allowFrom": [{"ipBlock": {"cidr": "2001:db8::/32", "except": ["2001:db8:1::/48"]}}]}}, True),
        ({"api": {"allowFrom": [{"ipBlock": {"cidr": "10.0.0.1"}}]}}, False),
        ({"api": {"allowFrom": [{"ipBlock": {}}]}}, False),
        ({"api": {"allowFrom": [{"podSelector": {"matchLabels": {"a": "b c"}}}]}}, False),
        (
            {"api": {"allowFrom": [{"podSelector": {"matchExpressions": [{"key": "a.b/c", "operator": "Exists"}]}}]}},
            True,
        ),
        ({"api": {"allowFrom": [{"podSelector": {"matchExpressions": [{"key": "a", "operator": "in"}]}}]}}, False),
        *(
            (
                {"api": {"allowFrom": [{"podSelector": {"matchExpressions": [{"key": key, "operator": "Exists"}]}}]}},
                False,
            )
            for key in ("", "a/b/c", "A.b/c", "a..b/c", "-a", "a" * 64)
        ),
        ({"upgrade": {"drainSeconds": 86401}}, False),
        ({"model": {"uri": "hf://a/b", "servedName": "a:b"}}, False),
        ({"model": {"uri": "hf://a/b", "servedName": "org/model v2"}}, False),
        ({"model": {"uri": "hf://a/b", "servedName": "org/model"}}, True),
        ({"model": {"uri": "hf://a/b", "revision": "-x"}}, False),
        ({"model": {"uri": "hf://a/b", "revision": "refs/pr/1"}}, True),
        ({"podTemplate": {"worker": {"spec": {"hostIPC": True, "containers": []}}}}, True),
    ],
)
def test_schema_and_parser_agree(spec: dict[str, Any], accepted: bool) -> None:
    assert both_verdicts(endpoint(**spec)) == (accepted, accepted)
