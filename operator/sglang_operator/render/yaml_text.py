"""Objects as YAML text that Go reads as Python wrote it."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import yaml

from sglang_operator.api import go_yaml

REMEMBERED = 4096  # texts: mostly keys, the same in every object
_RESOLVER = yaml.resolver.Resolver()


class _Dumper(yaml.CSafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
        """A value that occurs twice is written twice: anchors are no help to a reader."""
        return True


@functools.lru_cache(REMEMBERED)
def _is_ambiguous(text: str) -> bool:
    """Whether some reader would take it, unquoted, for something else than text."""
    tag = _RESOLVER.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    return tag != go_yaml.TEXT or go_yaml.tag_of(text) != go_yaml.TEXT


def _represent_text(dumper: yaml.CSafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else '"' if _is_ambiguous(text) else None
    return dumper.represent_scalar(go_yaml.TEXT, text, style=style)


_Dumper.add_representer(str, _represent_text)
# Also those of a spec, which are frozen.
_Dumper.add_multi_representer(dict, yaml.CSafeDumper.represent_dict)
_Dumper.add_multi_representer(list, yaml.CSafeDumper.represent_list)


def to_yaml(*objects: Any) -> str:
    """One document for each object, keys in their own order, the same bytes each time."""
    return "".join(_documents(objects))


def _documents(objects: Iterable[Any]) -> Iterable[str]:
    for position, value in enumerate(objects):
        yield "---\n" if position else ""
        yield yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
