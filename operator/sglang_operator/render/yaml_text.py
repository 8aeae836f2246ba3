"""Objects as YAML text that Go reads as Python wrote it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import yaml

_TEXT = "tag:yaml.org,2002:str"
# Python's YAML is 1.1, where `1e3` is text; Go's is 1.2, where it is a number and the API server refuses it as a label.
_GO_NUMBER = re.compile(r"[-+]?(\.?[0-9][0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?|0[xob][0-9a-fA-F_]+)")


class _Dumper(yaml.CSafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
        """A value that occurs twice is written twice: anchors are no help to a reader."""
        return True


def _represent_text(dumper: yaml.CSafeDumper, text: str) -> yaml.ScalarNode:
    tag = dumper.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    ambiguous = tag != _TEXT or _GO_NUMBER.fullmatch(text)
    return dumper.represent_scalar(_TEXT, text, style="|" if "\n" in text else '"' if ambiguous else None)


_Dumper.add_representer(str, _represent_text)


def to_yaml(*objects: Any) -> str:
    """One document for each object, keys in their own order, the same bytes each time."""
    return "".join(_documents(objects))


def _documents(objects: Iterable[Any]) -> Iterable[str]:
    for position, value in enumerate(objects):
        yield "---\n" if position else ""
        yield yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
