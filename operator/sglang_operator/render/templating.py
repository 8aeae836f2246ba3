"""jinja2 templates to objects: strict about names, and every value goes through `tojson`.

A value never becomes YAML: the text gets a numbered hole for it, so that it can neither break out of its place nor
change its type. The text then depends on the branches taken alone, and few texts are parsed, once each: parsing is ten
times the work of all the rest. Nothing of it leaves this module.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import Any, Final

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context
from jinja2.runtime import Context

SHAPES: Final = 128  # texts that are remembered, some 50 kB each once parsed
_TAG: Final = "!value"
_VALUES: Final = "values"


@dataclass(frozen=True)
class _Hole:
    """The place of one value in a parsed text."""

    number: int


class _Loader(yaml.CSafeLoader):
    """YAML with holes."""


def _hole(loader: yaml.CSafeLoader, node: yaml.ScalarNode) -> _Hole:
    return _Hole(int(loader.construct_scalar(node)))


_Loader.add_constructor(_TAG, _hole)


def render_template(name: str, context: Any) -> dict[str, Any]:
    """The object that templates/`name` makes of `context`, which it sees as `c`. An unknown name in it raises."""
    values: list[Any] = []
    text = _environment().get_template(name).render({"c": context, _VALUES: values})
    filled: dict[str, Any] = _fill(_parse(text), json.loads(json.dumps(values)))
    return filled


@functools.lru_cache(SHAPES)
def _parse(text: str) -> Any:
    """Shared by all who ask: not to be changed."""
    return yaml.load(text, Loader=_Loader)  # noqa: S506 - safe, but for the holes


def _fill(part: Any, values: list[Any]) -> Any:
    """A copy of `part` with the values in their holes."""
    if isinstance(part, dict):
        return {key: _fill(item, values) for key, item in part.items()}
    if isinstance(part, list):
        return [_fill(item, values) for item in part]
    return values[part.number] if isinstance(part, _Hole) else part


@pass_context
def _leave_hole(context: Context, value: Any) -> str:
    values = context[_VALUES]
    values.append(value)
    return f"{_TAG} {len(values) - 1}"


@functools.cache
def _environment() -> Environment:
    environment = Environment(  # noqa: S701 - YAML, not HTML: `tojson` is what escapes here
        loader=PackageLoader("sglang_operator.render"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters["tojson"] = _leave_hole
    return environment
