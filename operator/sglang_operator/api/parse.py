"""From an object as read from YAML or a cluster to an `Endpoint`. Total: it returns one or raises `InvalidEndpoint`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import ValidationError

from sglang_operator.api.base import Model
from sglang_operator.api.combinations import advised, hopeless, refused
from sglang_operator.api.endpoint import Endpoint, resolve
from sglang_operator.api.engine_args import doubtful_args, owned_args
from sglang_operator.api.errors import FieldError, InvalidEndpoint
from sglang_operator.api.findings import Loc, findings, path_of
from sglang_operator.api.mistakes import mistakes
from sglang_operator.api.other_tools import of_kind
from sglang_operator.api.rule import Rule
from sglang_operator.api.rules import rules_of
from sglang_operator.api.spec import API_VERSION, KIND, EndpointSpec, SGLangEndpoint

_STATUS: Final = "status"  # the operator's own


def parse_endpoint(obj: Mapping[str, Any]) -> Endpoint:
    """Check one `SGLangEndpoint` and fill in its defaults. Raises InvalidEndpoint with every finding, nothing else."""
    try:
        return _parse(obj)
    except RecursionError:  # YAML anchors can make a document that contains itself
        message = "is nested too deeply, or contains itself"
        raise InvalidEndpoint((FieldError("document", None, message, "write it without YAML anchors"),)) from None


def _parse(obj: Mapping[str, Any]) -> Endpoint:
    _check_kind(obj)
    try:
        parsed = SGLangEndpoint.model_validate({name: part for name, part in obj.items() if name != _STATUS})
    except ValidationError as error:
        raise InvalidEndpoint(findings(error)) from None
    engine_errors, warnings = _check_engine(parsed.spec)
    errors = (*_broken_rules(parsed), *engine_errors, *hopeless(parsed.spec))
    if errors:
        raise InvalidEndpoint(errors)
    metadata, resolved = parsed.metadata, resolve(parsed.spec)
    return Endpoint(
        name=metadata.name,
        namespace=metadata.namespace,
        uid=metadata.uid,
        spec=resolved,
        written=parsed.spec,
        warnings=(*warnings, *advised(resolved), *mistakes(parsed.spec)),
    )


def _check_kind(obj: Mapping[str, Any]) -> None:
    """Say it in one line when the document is something else altogether."""
    if not isinstance(obj, Mapping):
        raise InvalidEndpoint((FieldError("document", obj, "must be a mapping", f"start with kind: {KIND}"),))
    for field, wanted in (("kind", KIND), ("apiVersion", API_VERSION)):
        if (found := obj.get(field)) != wanted:
            remedy = "; ".join(filter(None, (f"write {field}: {wanted}", _migrated(field, found))))
            raise InvalidEndpoint((FieldError(field, found, f"must be {wanted}", remedy),))


def _migrated(field: str, found: Any) -> str:
    return of_kind(found) if field == "kind" and isinstance(found, str) else ""


def _check_engine(spec: EndpointSpec) -> tuple[tuple[FieldError, ...], tuple[FieldError, ...]]:
    """(errors, warnings) of the engine arguments."""
    engine = spec.engine
    owned, doubtful = (
        owned_args(engine.args, lora=spec.model.lora is not None),
        (*doubtful_args(engine.args), *refused(spec)),
    )
    return (owned, doubtful) if engine.args_check == "Warn" else (owned + doubtful, ())


def _broken_rules(parsed: SGLangEndpoint) -> Iterator[FieldError]:
    for loc, part in _parts(parsed, ()):
        for rule in rules_of(type(part)):
            if not rule.holds(part):
                yield _explain(rule, part, loc)
        yield from _duplicates(part, loc)


def _parts(value: Any, loc: Loc) -> Iterator[tuple[Loc, Model]]:
    """Every part of a parsed object with its place, the object itself first."""
    if isinstance(value, Model):
        yield loc, value
        for name, info in type(value).model_fields.items():
            yield from _parts(getattr(value, name), (*loc, info.alias or name))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _parts(item, (*loc, index))


def _explain(rule: Rule[Any], part: Model, loc: Loc) -> FieldError:
    names = tuple(filter(None, rule.field.split(".")))
    value: Any = part.model_dump(mode="json", by_alias=True, exclude_none=True)
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return FieldError(path_of((*loc, *names)), value, rule.message, rule.advice(part) or rule.remedy)


def _duplicates(part: Model, loc: Loc) -> Iterator[FieldError]:
    """Entries that a list names twice although its `x-kubernetes-list-type` says that each is there once."""
    for name, info in type(part).model_fields.items():
        extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        if extra.get("x-kubernetes-list-type") not in ("map", "set"):
            continue
        seen = set()
        for index, item in enumerate(getattr(part, name)):
            identity = getattr(item, "name", item)  # every list-map of the API has `name` as its key
            if identity in seen:
                place = path_of((*loc, info.alias or name, index))
                yield FieldError(place, identity, "is there twice", "keep one of them")
            seen.add(identity)
