"""Reads YAML that people write.

PyYAML goes down in C with each bracket, and over some thirty thousand the process ends with a segmentation fault: of
one file the CLI, and of one RayService the operator, for all endpoints.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import yaml

LEVELS: Final = 500  # an endpoint's engine arguments have 250 at most
Loader: TypeAlias = type[yaml.CSafeLoader]


def load(text: str, loader: Loader = yaml.CSafeLoader) -> Any:
    """What it says. Raises YAMLError also for what is nested too deeply, with its place."""
    _require_few_levels(text)
    return yaml.load(text, loader)  # noqa: S506 - a CSafeLoader


def load_all(text: str, loader: Loader = yaml.CSafeLoader) -> list[Any]:
    """What each of its documents says. Raises as `load`."""
    _require_few_levels(text)
    return list(yaml.load_all(text, loader))


def _require_few_levels(text: str) -> None:
    """By its events, of which one comes after the other."""
    level = 0
    for event in yaml.parse(text, yaml.CSafeLoader):
        level += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if level > LEVELS:
            raise yaml.MarkedYAMLError(problem=f"more than {LEVELS} levels", problem_mark=event.start_mark)  # type: ignore[arg-type]
