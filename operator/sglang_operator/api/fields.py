"""The fields of the API's parts, by their names in YAML."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, get_args

from pydantic.fields import FieldInfo

from sglang_operator.api.base import Model


@cache
def fields_of(model: type[Model]) -> Mapping[str, FieldInfo]:
    """The fields of a part by their names in YAML."""
    return {info.alias or name: info for name, info in model.model_fields.items()}


def part_of(info: FieldInfo) -> type[Model] | None:
    """The model that a field holds, alone, optional or in a list; None for scalars and free mappings."""
    return _model_in(info.annotation)


def _model_in(annotation: Any) -> type[Model] | None:
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)
