"""What to write where a value of another shape was found: `tokenSecret: {name: hf, key: token}`, made from the models.

Only the remedies of findings need it, so it is imported when there is one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from sglang_operator.api.base import Model
from sglang_operator.api.fields import fields_of, part_of
from sglang_operator.api.secrets import HIDDEN, names_secret, without_secrets, without_tokens

_FEW: Final = 4  # most entries of a mapping that are repeated as a list
_PLAIN: Final = re.compile(r"[A-Za-z/<][\w./:@+<>*-]*")  # text that YAML takes without quotes between braces
_NO_TEXT: Final = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})
_PAIR: Final = re.compile(r"(?P<name>[\w./-]+)=(?P<value>.*)", re.DOTALL)
_OPTION: Final = re.compile(r"--(?P<name>[\w-]+)(?:[= ](?P<value>(?!--)[^ ]+))?")  # of a command line
_OPTION_ALONE: Final = re.compile(r"--[\w-]+")
_REFERENCE: Final = "valueFrom: {secretKeyRef: {name: …, key: …}}"
_LONG: Final = 80  # most characters of a text that are repeated
_NOTHING: Final = "{}"
_DEEP: Final = 2  # levels of what was found that are repeated
_EXAMPLE: Final = re.compile(r"for example ([^;,]+?)[.;,](\s|$)")


def remedy(name: str, info: FieldInfo, found: Any, *, of_item: bool) -> str:
    """What to write for a field, or for an item of its list, where `found` has another shape."""
    part = part_of(info)
    if found is False and not of_item and info.default is None:
        return f"leave {name} out"
    if not of_item:
        return f"write {name}: {_value(name, info, found)}{_fields_to_choose(part, info, found)}"
    if part is None:
        return f"write {_example(info) or '<value>'}"
    return f"write {_of_part(part, name, found)}{_fields_to_choose(part, info, found)}"


def _fields_to_choose(part: type[Model] | None, info: FieldInfo, found: Any) -> str:
    """More about a part whose fields may all be left out, where none of them fits what was found."""
    if part is None or _of_part(part, "", found) != _NOTHING:
        return ""
    among = f"with some of its fields: {', '.join(fields_of(part))}"
    return f", {among}" if _is_list(info.annotation) else f", or {among}"


def _value(name: str, info: FieldInfo, found: Any) -> str:
    part = part_of(info)
    if _is_list(info.annotation):
        return f"[{', '.join(_items(name, part, found))}]"
    if part:
        return _of_part(part, name, found)
    pairs = _pairs(found)
    return f"{{{', '.join(_pair(*pair) for pair in pairs) or _example(info) or '<name>: <value>'}}}"


def _items(name: str, part: type[Model] | None, found: Any) -> Iterator[str]:
    """The items of a list: those that were found without one, or of a mapping that should be one."""
    if part is None:
        texts = [one for one in re.split(r"[,\s]+", found) if one] if isinstance(found, str) else []
        yield from map(_scalar, texts or [f"<{name}>"])
    elif isinstance(found, Mapping) and found and found.keys() <= fields_of(part).keys():
        yield _of_part(part, name, found)
    elif isinstance(found, Mapping) and len(found) > _FEW:
        yield from (_of_part(part, name, dict([pair])) for pair in list(found.items())[:_FEW])
        yield "…"
    elif isinstance(found, Mapping) and found:
        yield from (_of_part(part, name, dict([pair])) for pair in found.items())
    else:
        yield _of_part(part, name, found)


def _of_part(part: type[Model], name: str, found: Any) -> str:
    """A part with its required fields, the found text in the first one that takes it."""
    if isinstance(found, list | tuple) and len(found) == 1 and isinstance(found[0], Mapping):
        return _of_part(part, name, found[0])
    pairs = _pairs(found)
    if pairs and {key for key, _ in pairs} <= fields_of(part).keys():
        return f"{{{', '.join(_pair(key, HIDDEN if _is_of_variable(part, key) else value) for key, value in pairs)}}}"
    if len(pairs) == 1 and (entry := _named(part, *pairs[0])):
        return entry
    if not _required(part):
        fitting = [one for one in fields_of(part) if _fits(part, one, found)]
        return f"{{{fitting[0]}: {_scalar(found)}}}" if len(fitting) == 1 else _NOTHING
    left, written = found, []
    for field, info in _required(part).items():
        if _fits(part, field, left):
            written.append(f"{field}: {_scalar(left)}")
            left = None
        else:
            written.append(f"{field}: {_of_required(field, info, name, left)}")
    return f"{{{', '.join(written)}}}"


def _of_required(field: str, info: FieldInfo, name: str, found: Any) -> str:
    if part_of(info):
        return _value(field, info, found)
    if field == "key" and name.endswith("Secret"):
        return name.removesuffix("Secret")
    return _example(info) or f"<{field}>"


def _named(part: type[Model], name: str, value: Any) -> str:
    """The entry of a list that was written as `name: value`; "" if it is no such list."""
    if _is_of_variable(part, "value") and isinstance(value, bool | int | float):
        value = json.dumps(value)  # it takes text alone, and is not shown
    first, *others = [*_required(part), *(one for one in fields_of(part) if one not in _required(part))]
    second = next((one for one in others if _fits(part, one, value, secret=True)), "")
    if not second or not _fits(part, first, name):
        return ""
    if names_secret(name) and _is_of_variable(part, second):
        return f"{{{first}: {_scalar(name)}, {_REFERENCE}}}"
    shown = HIDDEN if _is_of_variable(part, second) else value
    return f"{{{first}: {_scalar(name)}, {second}: {_scalar(shown)}}}"


def _is_of_variable(part: type[Model], field: str) -> bool:
    """It is the value of an environment variable, whose name may tell of no secret that it is."""
    return field == "value" and "valueFrom" in fields_of(part)


def _pairs(found: Any) -> Sequence[tuple[str, Any]]:
    """What was found as names with values, secrets aside: of a mapping, or of texts like NAME=value."""
    return [(str(name), value) for name, value in without_secrets(_mapping(found)).items()]


def _mapping(found: Any) -> Mapping[Any, Any]:
    if isinstance(found, Mapping):
        return found
    texts = [found] if isinstance(found, str) else _joined(found) if isinstance(found, list | tuple) else []
    if options := _matches(_OPTION, texts):
        return {one["name"].replace("-", "_"): _read(one["value"]) for one in options}
    return {one["name"]: one["value"] for one in _matches(_PAIR, texts)}


def _joined(words: Sequence[Any]) -> list[Any]:
    """The words of a command line, an option and its value in one."""
    joined: list[Any] = []
    for one in words:
        if joined and _OPTION_ALONE.fullmatch(str(joined[-1])) and not str(one).startswith("--"):
            joined[-1] = f"{joined[-1]}={one}"
        else:
            joined.append(one)
    return joined


def _matches(pattern: re.Pattern[str], texts: Sequence[Any]) -> list[re.Match[str]]:
    """The matches of all texts; none if one of them has none."""
    matches = [pattern.fullmatch(one) if isinstance(one, str) else None for one in texts]
    return [match for match in matches if match] if all(matches) else []


def _read(value: str | None) -> Any:
    """The value of an option as YAML has it: numbers and booleans are no texts."""
    if value is None:
        return True
    try:
        return json.loads(value)
    except (ValueError, RecursionError):  # no JSON, or more digits than Python reads
        return value


def _pair(name: str, value: Any) -> str:
    return f"{_scalar(name)}: {_flow(value)}"


def _flow(value: Any, depth: int = _DEEP) -> str:
    """What was found between braces."""
    if isinstance(value, Mapping) and depth:
        pairs = without_secrets(value).items()
        return f"{{{', '.join(f'{_scalar(str(name))}: {_flow(one, depth - 1)}' for name, one in pairs)}}}"
    return _scalar(value) if isinstance(value, str | int | float) else "…"


def _scalar(value: Any) -> str:
    """A value as it can stand between braces, in quotes only where YAML would take it for something else."""
    if not isinstance(value, str):
        return json.dumps(value)
    if value == HIDDEN:
        return "…"
    text = without_tokens(value)
    if len(text) > _LONG:
        text = f"{text[: _LONG - 1]}…"
    is_plain = _PLAIN.fullmatch(text) and text.lower() not in _NO_TEXT and not text.endswith(":")
    return text if is_plain else json.dumps(text, ensure_ascii=False)


def _fits(part: type[Model], field: str, value: Any, *, secret: bool = False) -> bool:
    """Whether a scalar is a value of this field. A token fits nowhere: nobody should write one into a file."""
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
        return False
    if not secret and without_tokens(str(value)) != str(value):
        return False
    try:
        part.model_validate({field: value})
    except ValidationError as error:
        return all(one["loc"][:1] != (field,) for one in error.errors())
    return True


def _required(part: type[Model]) -> Mapping[str, FieldInfo]:
    return {name: info for name, info in fields_of(part).items() if info.is_required()}


def _is_list(annotation: Any) -> bool:
    """Whether it is a list, also one that may be left out."""
    return get_origin(annotation) is tuple or any(map(_is_list, get_args(annotation)))


def _example(info: FieldInfo) -> str:
    """What the field's description has for an example, or ""."""
    match = _EXAMPLE.search(info.description or "")
    return match[1] if match else ""
