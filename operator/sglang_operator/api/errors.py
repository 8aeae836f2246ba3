"""What is wrong with an `SGLangEndpoint`, in words that say where, what and how to mend it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sglang_operator.api.secrets import without_secrets, without_tokens

# Not the value itself: of 1.10 YAML has left 1.1, of 0123 the number 83, of `y` true.
IN_QUOTES = "put it in quotes, as it is written in the file"
_SHOWN = 80  # longest value that is printed in full, in characters
_FEW = 8  # most entries of a list or mapping that is printed in full


@dataclass(frozen=True)
class FieldError:
    """One finding: the field as written in YAML, the value found there, what is wrong, what to do."""

    path: str
    value: Any
    message: str
    remedy: str

    def __str__(self) -> str:
        found = "" if self.value is None else f" (found {show(self.value)})"
        return f"{self.path}: {self.message}{found}\n  remedy: {self.remedy}"


class InvalidEndpoint(ValueError):  # noqa: N818 - named by what it is, as ValueError's users expect
    """The object is no valid `SGLangEndpoint`. `errors` holds every finding; `str()` is what the CLI prints."""

    def __init__(self, errors: tuple[FieldError, ...]) -> None:
        super().__init__(errors)
        self.errors = errors

    def __str__(self) -> str:
        return "\n".join(map(str, self.errors))


def show(value: Any) -> str:
    """`value` as one short line of JSON; a large, deep or self-containing one by its kind and size. Never fails, and
    repeats no secret.
    """
    if isinstance(value, Mapping) and not _is_flat(value.values()):
        return f"a mapping of {len(value)} entries"
    if isinstance(value, list | tuple) and not _is_flat(value):
        return f"a list of {len(value)} entries"
    shown = without_secrets(value) if isinstance(value, Mapping) else value
    text = without_tokens(json.dumps(shown, default=str, skipkeys=True))
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _is_flat(values: Collection[Any]) -> bool:
    return len(values) <= _FEW and not any(isinstance(value, Mapping | list | tuple) for value in values)
