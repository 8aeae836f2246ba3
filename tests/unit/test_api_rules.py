"""Every rule across fields judges alike in both places: as CEL in the CRD, and as Python offline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import pytest
from cel_expr_python import cel
from hypothesis import given, settings
from unit.api_objects import endpoint, well_formed_specs
from unit.rule_cases import CASES

from sglang_operator.api import InvalidEndpoint, parse_endpoint
from sglang_operator.api.crd import crd
from sglang_operator.api.rules import RULES

SCHEMA = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
ENVIRONMENT = cel.NewEnv(variables={"self": cel.Type.DYN})


def defaulted(value: Any, schema: Mapping[str, Any]) -> Any:
    """`value` with the defaults of the schema, as the API server fills them in before it validates."""
    if isinstance(value, list):
        return [defaulted(item, schema["items"]) for item in value]
    if not isinstance(value, dict) or "properties" not in schema:
        return value
    defaults = {name: part["default"] for name, part in schema["properties"].items() if "default" in part}
    return {name: defaulted(item, schema["properties"].get(name, {})) for name, item in {**defaults, **value}.items()}


def escaped(value: Any) -> Any:
    """`value` with the names of fields that are reserved words of CEL as the API server spells them."""
    if isinstance(value, list):
        return [escaped(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {"__namespace__" if name == "namespace" else name: escaped(part) for name, part in value.items()}


@cache
def compiled(rule: str) -> Any:
    return ENVIRONMENT.compile(rule)


def broken(value: Any, schema: Mapping[str, Any]) -> Iterator[str]:
    """Messages of the CEL rules that do not hold at `value` or anywhere below it."""
    if isinstance(value, list):
        for item in value:
            yield from broken(item, schema["items"])
    if isinstance(value, dict) and "properties" in schema:
        for rule in schema.get("x-kubernetes-validations", []):
            verdict = compiled(rule["rule"]).eval(data={"self": escaped(value)}).value()
            assert isinstance(verdict, bool), (rule["rule"], verdict)
            if not verdict:
                yield rule["message"].partition(";")[0]
        for name, part in schema["properties"].items():
            yield from broken(value.get(name), part)


def broken_in_cel(obj: Any) -> list[str]:
    return sorted(broken(defaulted(obj, SCHEMA), SCHEMA))


def broken_offline(obj: Any) -> list[str]:
    try:
        parse_endpoint(obj)
    except InvalidEndpoint as invalid:
        return sorted(error.message.partition(";")[0] for error in invalid.errors)
    return []


def test_every_rule_has_cases() -> None:
    known = {next((start for start in CASES if rule.message.startswith(start)), rule.message) for rule in RULES}
    assert known == set(CASES)


@pytest.mark.parametrize("start", CASES)
def test_bad_objects_break_just_that_rule_in_both_places(start: str) -> None:
    for obj in CASES[start][0]:
        assert broken_in_cel(obj) == broken_offline(obj), obj
        assert [message.startswith(start) for message in broken_offline(obj)] == [True], obj


@pytest.mark.parametrize("start", CASES)
def test_good_objects_pass_in_both_places(start: str) -> None:
    for obj in CASES[start][1]:
        assert broken_in_cel(obj) == broken_offline(obj) == [], obj


@given(well_formed_specs)
@settings(max_examples=100, deadline=None)
def test_both_places_agree_on_anything(spec: dict[str, Any]) -> None:
    obj = endpoint(**spec)
    assert broken_in_cel(obj) == broken_offline(obj)
