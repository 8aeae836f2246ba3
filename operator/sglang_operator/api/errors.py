"""What is wrong with an `SGLangEndpoint`, in words that say where, what and how to mend it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

_SHOWN = 80  # longest value that is printed in full, in characters


@dataclass(frozen=True)
class FieldError:
    """One finding: the field as written in YAML, the value found there, what is wrong, what to do."""

    path: str
    value: Any
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message} (found {show(self.value)})\n  remedy: {self.remedy}"


class InvalidEndpoint(ValueError):  # noqa: N818 - named by what it is, as ValueError's users expect
    """The object is no valid `SGLangEndpoint`. `errors` holds every finding; `str()` is what the CLI prints."""

    def __init__(self, errors: tuple[FieldError, ...]) -> None:
        super().__init__(errors)
        self.errors = errors

    def __str__(self) -> str:
        return "\n".join(map(str, self.errors))


def show(value: Any) -> str:
    """`value` as one short line of JSON."""
    text = "nothing" if value is None else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
