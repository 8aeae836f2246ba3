"""Platform defaults: a part of a `spec`, merged under the spec of each endpoint.

What the user writes wins; objects are merged, lists are replaced, null leaves a field out. Two things follow from "the
user wins": a default that would break a rule together with what the user wrote is left out, with a warning; and the
name of a revision is taken from the user's own fields, so that new defaults restart nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, Final

import yaml
from pydantic import ValidationError

from sglang_operator.api import shallow_yaml
from sglang_operator.api.base import Model
from sglang_operator.api.endpoint import Endpoint
from sglang_operator.api.engine_args import doubtful_args, owned_args
from sglang_operator.api.errors import FieldError, InvalidEndpoint
from sglang_operator.api.fields import fields_of, part_of
from sglang_operator.api.findings import details_of, findings
from sglang_operator.api.parse import parse_endpoint
from sglang_operator.api.spec import API_VERSION, KIND, EndpointSpec, SGLangEndpoint
from sglang_operator.api.yaml_loader import ODD, Loader

Json = Mapping[str, Any]

NONE: Final[Json] = {}
_ROOT: Final = "defaults"  # what findings call the document, as the chart's values do


def merge(defaults: Json, manifest: Json) -> dict[str, Any]:
    """`manifest` with `defaults` under its spec. Pure; what the user wrote is all there, unchanged, nulls included."""
    spec = manifest.get("spec")
    return {**manifest, "spec": _under(defaults, {} if spec is None else spec)}


def parse_with_defaults(manifest: Json, defaults: Json) -> Endpoint:
    """As parse_endpoint, with `defaults` merged under the spec. Raises InvalidEndpoint for the user's own mistakes.

    `written` has nothing of the defaults. What is left out of them is in `warnings`.
    """
    own = parse_endpoint(manifest)
    if not defaults:
        return own
    fitting, left_out = _fitting(defaults, manifest)
    merged = parse_endpoint(merge(fitting, manifest))
    return dataclasses.replace(merged, written=own.written, warnings=(*merged.warnings, *left_out))


def load_yaml(text: str) -> Any:
    """What is in a file of defaults, or of values that have them. Raises InvalidEndpoint if it is no YAML."""
    try:
        return shallow_yaml.load(text, Loader)
    except (yaml.YAMLError, *ODD) as error:
        raise InvalidEndpoint((FieldError(_ROOT, None, f"is no YAML: {error}", "mend it"),)) from None


def check_defaults(read: Any) -> dict[str, Any]:
    """Defaults as they were read, None being none. Raises InvalidEndpoint with every finding."""
    found = {} if read is None else read
    if not isinstance(found, dict):
        raise InvalidEndpoint(
            (FieldError(_ROOT, found, "must be a mapping", "write the fields of an endpoint's spec"),)
        )
    if errors := (*_without_effect(found), *_wrong_fields(found), *_wrong_args(found)):
        raise InvalidEndpoint(errors)
    return found


def of_defaults(finding: FieldError) -> FieldError:
    """A finding in a spec that consists of defaults, with its path in them."""
    return dataclasses.replace(finding, path=_ROOT + finding.path.removeprefix("spec"))


def _under(default: Any, value: Any) -> Any:
    if not isinstance(default, Mapping) or not isinstance(value, Mapping):
        return value
    return {**default, **{name: _under(default.get(name), part) for name, part in value.items()}}


def _without_effect(defaults: Json) -> Iterator[FieldError]:
    """The API server writes a number of replicas into every endpoint, so none is left to be filled in."""
    if "replicas" in defaults:
        yield FieldError(
            f"{_ROOT}.replicas", defaults["replicas"], "has no effect: every endpoint has its own", "remove it"
        )


def _wrong_fields(defaults: Json) -> Iterator[FieldError]:
    """What the models refuse, missing fields aside: the user may add them. An item of a list must be whole."""
    whole = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "defaults"}, "spec": defaults}
    try:
        SGLangEndpoint.model_validate(whole)
    except ValidationError as error:
        for detail, finding in zip(details_of(error), findings(error), strict=True):
            if detail["type"] != "missing" or any(isinstance(part, int) for part in detail["loc"]):
                yield of_defaults(finding)


def _wrong_args(defaults: Json) -> Iterator[FieldError]:
    engine = defaults.get("engine")
    args = engine.get("args") if isinstance(engine, Mapping) else None
    if not isinstance(engine, Mapping) or not isinstance(args, Mapping):
        return
    named = {name: value for name, value in args.items() if isinstance(name, str)}  # what is no text the models refuse
    doubtful = () if engine.get("argsCheck") == "Warn" else doubtful_args(named)
    for finding in (*owned_args(named), *doubtful):
        yield of_defaults(finding)


def _fitting(defaults: Json, manifest: Json) -> tuple[Json, tuple[FieldError, ...]]:
    """The defaults that leave `manifest` valid, and a warning for each of the others."""
    if not _problem(defaults, manifest):
        return defaults, ()
    fitting, left = NONE, [*_units(defaults, EndpointSpec)]
    # From the start again after each one: a default may fit only beside another one.
    while found := next((unit for unit in left if not _problem(_under(fitting, unit.part), manifest)), None):
        fitting = _under(fitting, found.part)
        left.remove(found)
    return fitting, tuple(_left_out(unit, _problem(_under(fitting, unit.part), manifest)) for unit in left)


@dataclass(frozen=True)
class _Unit:
    """One default that is taken or left as a whole: a field, or an object whose presence means something."""

    path: tuple[str, ...]
    value: Any

    @property
    def part(self) -> dict[str, Any]:
        return reduce(lambda inner, name: {name: inner}, reversed(self.path), self.value)


def _units(defaults: Json, model: type[Model], path: tuple[str, ...] = ()) -> Iterator[_Unit]:
    for name, value in defaults.items():
        info = fields_of(model)[name]
        inner = part_of(info)
        if inner and info.default is not None and isinstance(value, Mapping):
            yield from _units(value, inner, (*path, name))
        else:
            yield _Unit((*path, name), value)


def _left_out(unit: _Unit, problem: str) -> FieldError:
    path = ".".join(("spec", *unit.path))
    message = f"the platform's default does not fit this endpoint and is left out: {problem}"
    return FieldError(path, unit.value, message, f"write {path} as you want it")


def _problem(defaults: Json, manifest: Json) -> str:
    """Why `manifest` is refused with `defaults`; "" if it is not."""
    try:
        parse_endpoint(merge(defaults, manifest))
    except InvalidEndpoint as error:
        return error.errors[0].message
    return ""
