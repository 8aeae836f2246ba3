"""jinja2 templates to objects: strict about names, and every value goes through `tojson`.

JSON is YAML, so a value can neither break out of its place nor change its type. The text is parsed at once; nothing of
it leaves this module.
"""

from __future__ import annotations

import functools
import json
import re
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

_SURROGATES = re.compile(r"\\ud([89ab][0-9a-f]{2})\\ud([c-f][0-9a-f]{2})")


def render_template(name: str, context: Any) -> dict[str, Any]:
    """The object that templates/`name` makes of `context`, which it sees as `c`. An unknown name in it raises."""
    text = _environment().get_template(name).render(c=context)
    parsed: dict[str, Any] = yaml.load(text, Loader=yaml.CSafeLoader)
    return parsed


def to_json(value: Any) -> str:
    """`value` as JSON that YAML reads the same: YAML has no surrogate pairs, but eight-digit escapes."""
    return _SURROGATES.sub(_eight_digits, json.dumps(value))


def _eight_digits(pair: re.Match[str]) -> str:
    high, low = int(pair[1], 16) & 0x3FF, int(pair[2], 16) & 0x3FF
    return f"\\U{0x10000 + (high << 10) + low:08x}"


@functools.cache
def _environment() -> Environment:
    environment = Environment(  # noqa: S701 - YAML, not HTML: `tojson` is what escapes here
        loader=PackageLoader("sglang_operator.render"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters["tojson"] = to_json
    return environment
