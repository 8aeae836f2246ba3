"""Reads YAML that people may have edited.

PyYAML goes down in C with each bracket, and over some thirty thousand the process ends with a segmentation fault: one
RayService would leave all endpoints without an operator.
"""

from __future__ import annotations

from typing import Any, Final

import yaml

LEVELS: Final = 500  # an endpoint's engine arguments have 250 at most


def load(text: str) -> Any:
    """What it says. Raises YAMLError also for what is nested too deeply."""
    _require_few_levels(text)
    return yaml.load(text, yaml.CSafeLoader)


def _require_few_levels(text: str) -> None:
    """By its events, of which one comes after the other."""
    level = 0
    for event in yaml.parse(text, yaml.CSafeLoader):
        level += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if level > LEVELS:
            raise yaml.YAMLError(f"more than {LEVELS} levels")
