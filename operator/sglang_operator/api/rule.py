"""What a rule across fields is: `rules.py` and its neighbours list them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Generic, TypeVar

from sglang_operator.api.base import Model

M = TypeVar("M", bound=Model)


@dataclass(frozen=True)
class Rule(Generic[M]):
    """A condition on one part of the API, and what to say when it does not hold."""

    of: type[M]
    field: str  # the field to blame, relative to the part, in YAML's spelling
    cel: str  # over `self`, the part
    holds: Callable[[M], bool]
    message: str
    remedy: str
    advice: Callable[[M], str] = lambda _: ""  # a remedy for the very value, where one can be given


def either(path: str, default: str) -> str:
    """CEL for the value at `path`, or `default` where any part of the path is not written: the CRD has no defaults."""
    first, *rest = path.removeprefix("self.").split(".")
    steps = accumulate(rest, lambda whole, name: f"{whole}.{name}", initial=f"self.{first}")
    return f"({' && '.join(f'has({step})' for step in steps)} ? {path} : {default})"
