"""From pydantic's validation errors to `FieldError`s: the path as in YAML, plain words, a remedy."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, get_args

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from sglang_operator.api.base import HOSTNAME, IMAGE, PATTERN_WORDS, QUANTITY, Model
from sglang_operator.api.errors import IN_QUOTES, FieldError, show
from sglang_operator.api.fields import fields_of, part_of
from sglang_operator.api.other_tools import FIELDS, VALUES
from sglang_operator.api.secrets import is_secret
from sglang_operator.api.spec import EndpointSpec, SGLangEndpoint
from sglang_operator.api.units import meant_bytes, plain_number

Loc = tuple[int | str, ...]
Explained = tuple[str, str]  # message, remedy

_ENVIRONMENT: Final = ("spec", "engine", "env")


def findings(error: ValidationError) -> tuple[FieldError, ...]:
    """Every error of a validation of SGLangEndpoint, in document order."""
    return tuple(map(_finding, details_of(error)))


def details_of(error: ValidationError) -> list[ErrorDetails]:
    """What each finding is made from. Pydantic counts valid items alone: a list that is long enough is not short."""
    errors = error.errors(include_url=False)
    return [one for one in errors if one["type"] != "too_short" or len(one["input"]) < one["ctx"]["min_length"]]


def path_of(loc: Loc) -> str:
    """`("spec", "engine", "env", 0, "name")` -> `spec.engine.env[0].name`."""
    path = ""
    for part in loc:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part == "[key]":  # pydantic's mark for an error in a mapping's key, which is the part before it
            continue
        elif part.replace("_", "").isalnum():
            path += f".{part}" if path else part
        else:
            path += f"[{show(part)}]"
    return path or "document"


def closest(wrong: str, known: Iterable[str]) -> str:
    """The known word that `wrong` was probably meant to be, or ""."""
    spellings = {word.replace("_", "").lower(): word for word in known}
    matches = difflib.get_close_matches(wrong.replace("_", "").replace("-", "").lower(), spellings, n=1, cutoff=0.7)
    return spellings[matches[0]] if matches else ""


def _finding(details: ErrorDetails) -> FieldError:
    value = None if details["type"] == "missing" or _is_hidden(details) else details["input"]
    explain = _EXPLAIN.get(details["type"], _as_pydantic_says)
    message, remedy = explain(details)
    return FieldError(path_of(_known(details["loc"])), value, message, remedy)


def _is_hidden(details: ErrorDetails) -> bool:
    """Whether a value is not to be repeated: of an environment variable, of an unknown field that may hold a secret."""
    loc = details["loc"]
    if loc[:3] == _ENVIRONMENT:
        return loc[-1] != "name"
    return details["type"] == "extra_forbidden" and any(is_secret(str(name), details["input"]) for name in loc[-2:])


def _described(loc: Loc, todo: str = "correct it") -> str:
    """What to do, and what the field is for: the remedy where nothing better is known."""
    info = _field_at(loc)
    description = (info.description or "").removeprefix("[R] ") if info else ""
    return f"{todo}: {description}" if description else f"{todo}, see docs/reference/api.md"


def _field_at(loc: Loc) -> FieldInfo | None:
    """The deepest field of the API on the way to `loc`."""
    return next(reversed([info for _, info in _way(loc)]), None)


def _known(loc: Loc) -> Loc:
    """`loc` down to the entry of a free mapping: below it pydantic adds the names of its own types."""
    way = [*_way(loc)]
    return loc[: way[-1][0] + 2] if way and part_of(way[-1][1]) is None else loc


def _way(loc: Loc) -> Iterator[tuple[int, FieldInfo]]:
    """The fields of the API that `loc` goes through, each with its index in `loc`."""
    model: type[Model] | None = SGLangEndpoint
    for index, name in enumerate(loc):
        if isinstance(name, int):
            continue
        info = fields_of(model).get(name) if model else None
        if info is None:
            return
        yield index, info
        model = part_of(info)


def _all_paths(model: type[Model], prefix: str) -> Iterator[tuple[str, str]]:
    """(name, path) of every field below `model`."""
    for name, info in fields_of(model).items():
        yield name, f"{prefix}.{name}"
        part = part_of(info)
        if part:
            yield from _all_paths(part, f"{prefix}.{name}")


def _explain_unknown(details: ErrorDetails) -> Explained:
    return "unknown field" + ("; its value is not shown" if _is_hidden(details) else ""), _instead(details["loc"])


def _instead(loc: Loc) -> str:
    """What to do about an unknown field."""
    *parents, name = loc
    if remedy := FIELDS.get(path_of(tuple(parents)), {}).get(str(name)):
        return remedy
    holder = _field_at(tuple(parents))
    siblings = fields_of((holder and part_of(holder)) or SGLangEndpoint)
    beside = closest(str(name), siblings)
    if beside:
        return f"did you mean {path_of((*parents, beside))}?"
    if not parents and name in fields_of(EndpointSpec):
        return f"did you mean spec.{name}?"
    elsewhere = [path for known, path in _all_paths(EndpointSpec, "spec") if known == name]
    if len(elsewhere) == 1 and parents == ["spec"]:  # below an object the same name is likely to mean something else
        return f"did you mean {elsewhere[0]}?"
    return f"remove it, or use one of: {', '.join(siblings)}"


def _explain_missing(details: ErrorDetails) -> Explained:
    return "is required", _described(details["loc"], f"add {path_of(details['loc'])}")


def _explain_text(details: ErrorDetails) -> Explained:
    value = details["input"]
    if isinstance(value, bool | int | float):
        return "must be text", IN_QUOTES
    return "must be text", _described(details["loc"])


def _explain_number(details: ErrorDetails) -> Explained:
    value = details["input"]
    if isinstance(value, str) and value.lstrip("-").isdecimal():
        return "must be a whole number", "remove the quotes"
    if isinstance(value, str) and (meant := plain_number(str(details["loc"][-1]), value)):
        return "must be a whole number", meant
    return "must be a whole number", _range(details["loc"])


def _explain_choice(details: ErrorDetails) -> Explained:
    choices = [choice.strip("'") for choice in details["ctx"]["expected"].replace(" or ", ", ").split(", ")]
    meant = closest(str(details["input"]), choices)
    remedy = f'did you mean "{meant}"?' if meant else "use one of them"
    remedy = VALUES.get(path_of(details["loc"]), {}).get(str(details["input"]), remedy)
    return f"must be one of {', '.join(choice or 'nothing' for choice in choices)}", remedy


def _explain_pattern(details: ErrorDetails) -> Explained:
    pattern = details["ctx"]["pattern"]
    words = PATTERN_WORDS.get(pattern, f"text that matches {pattern}")
    return f"must be {words}", _meant(pattern, str(details["input"])) or _described(details["loc"])


def _meant(pattern: str, found: str) -> str:
    """The remedy for a text that is near what the pattern asks for; "" for any other."""
    if pattern == QUANTITY:
        return meant_bytes(found)
    if pattern == IMAGE and "://" in found:
        return f"write {found.partition('://')[2]}"
    return _meant_host(found) if pattern.endswith(HOSTNAME) else ""


def _meant_host(text: str) -> str:
    """The remedy for a URL in place of a host name; "" for anything else."""
    host = text.rpartition("://")[2].partition("/")[0].partition(":")[0].lower()
    return f"write {host}" if host != text and re.fullmatch(HOSTNAME, host) else ""


def _explain_json(details: ErrorDetails) -> Explained:
    return f"JSON cannot hold a {type(details['input']).__name__}", "put it in quotes"


def _explain_bound(message: str) -> Callable[[ErrorDetails], Explained]:
    """An explanation of a number that is too small or too large: the remedy has both ends."""

    def explain(details: ErrorDetails) -> Explained:
        return message.format(**details["ctx"]), _range(details["loc"])

    return explain


def _range(loc: Loc) -> str:
    info = _field_at(loc)
    limits = dict(_limits(info.annotation, info.metadata)) if info else {}
    if limits.keys() < {"ge", "le"}:
        return _described(loc)
    return f"use a number from {limits['ge']} to {limits['le']}"


def _limits(annotation: Any, metadata: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """The ends of a number's range, also of one that may be left out."""
    for one in metadata:
        yield from ((end, getattr(one, end)) for end in ("ge", "le") if hasattr(one, end))
        if isinstance(one, FieldInfo):
            yield from _limits(None, one.metadata)
    for part in get_args(annotation):
        yield from _limits(part, getattr(part, "__metadata__", ()))


def _says(message: str, remedy: str = "") -> Callable[[ErrorDetails], Explained]:
    """An explanation by pydantic's context values; without a remedy the field's description is it."""

    def explain(details: ErrorDetails) -> Explained:
        context = details.get("ctx", {})
        return message.format(**context), remedy.format(**context) or _described(details["loc"])

    return explain


def _as_pydantic_says(details: ErrorDetails) -> Explained:
    return details["msg"], _described(details["loc"])


def _shape(message: str) -> Callable[[ErrorDetails], Explained]:
    """An explanation of a value of another shape: the remedy shows what to write."""

    def explain(details: ErrorDetails) -> Explained:
        return message, _shaped(details["loc"], details["input"])

    return explain


def _shaped(loc: Loc, found: Any) -> str:
    from sglang_operator.api import shapes  # noqa: PLC0415 - a valid endpoint needs none

    way = [*_way(loc)]
    of_item = bool(loc) and isinstance(loc[-1], int)
    if not way or way[-1][0] != len(loc) - 1 - of_item:  # somewhere in a free mapping
        return _described(loc)
    index, info = way[-1]
    return shapes.remedy(str(loc[index]), info, found, of_item=of_item)


_MAPPING = _shape("must be a mapping (`name: value` lines)")

_EXPLAIN: Final[Mapping[str, Callable[[ErrorDetails], Explained]]] = {
    "extra_forbidden": _explain_unknown,
    "missing": _explain_missing,
    "string_type": _explain_text,
    "int_type": _explain_number,
    "invalid-json-value": _explain_json,
    "literal_error": _explain_choice,
    "string_pattern_mismatch": _explain_pattern,
    "value_error": _says("JSON cannot hold this value"),
    "recursion_loop": lambda _: ("contains itself, or is nested too deeply", "write it without YAML anchors"),
    "recursion_depth_exceeded": lambda _: ("is nested too deeply", "write it with fewer levels"),
    "bool_type": lambda _: ("must be true or false", "write true or false, without quotes"),
    "greater_than_equal": _explain_bound("must be at least {ge}"),
    "less_than_equal": _explain_bound("must be at most {le}"),
    "string_too_short": _says("must not be empty"),
    "string_too_long": _says("must be at most {max_length} characters", "shorten it to {max_length} characters"),
    "too_short": _says("must have at least {min_length} entry"),
    "too_long": _says("must have at most {max_length} entries", "keep {max_length} of them"),
    "tuple_type": _shape("must be a list (`- item` lines)"),
    "dict_type": _MAPPING,
    "model_type": _MAPPING,
    "model_attributes_type": _MAPPING,
}
