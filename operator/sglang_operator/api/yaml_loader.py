"""Reads YAML as kubectl does, so that a file means the same here and in the cluster."""

from __future__ import annotations

from typing import Any, Final

import yaml

from sglang_operator.api import go_yaml

# Besides YAMLError: of a number of 5000 digits or `!!int x`, of a document of many levels, of `!!timestamp x`.
ODD: Final = (ValueError, RecursionError, AttributeError)


class Loader(yaml.CSafeLoader):
    """As yaml.safe_load, but words and numbers are what Go takes them for, and a key that is there twice is an error
    instead of the last one winning."""

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> Any:
        """The tag of a node; PyYAML calls it for each that has none of its own."""
        if kind is yaml.ScalarNode and implicit[0]:
            return go_yaml.tag_of(value)
        return super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse a repeated key; PyYAML calls it for every mapping."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                problem = f"key {key.value!r} is there twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
        return super().construct_mapping(node, deep)


def _construct_bool(loader: Loader, node: yaml.ScalarNode) -> bool:
    return go_yaml.truth_of(str(loader.construct_scalar(node)))


def _construct_int(loader: Loader, node: yaml.ScalarNode) -> int:
    return go_yaml.whole_of(str(loader.construct_scalar(node)))


Loader.add_constructor(go_yaml.BOOL, _construct_bool)
Loader.add_constructor(go_yaml.INT, _construct_int)
