"""What no message repeats: values that are a token, a key or a password. Messages end in the logs of pipelines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

HIDDEN: Final = "***"  # what is shown in place of a secret
_WORDS: Final = r"(?:token(?!iz)|passw|secret|key)"
_NAME: Final = re.compile(_WORDS, re.IGNORECASE)
# Not TOKENIZERS_PARALLELISM, no number of TOKENS, no file that has one.
_VARIABLE: Final = re.compile(r"(TOKEN(?![A-Z])|PASSWORD|SECRET|API_KEY|ACCESS_KEY)(?!.*_(FILE|PATH|DIR|URL)$)")
_TOKEN: Final = re.compile(r"(?<![\w./-])(hf_|sk-)[\w-]+")  # of Hugging Face and of OpenAI

# Options of a command line, also in a list as JSON has it, and NAME=value. What any user may write is matched here, on
# the operator's event loop: no part is without a bound.
_PART: Final = r"[\w-]{0,64}"
_WRITTEN: Final = re.compile(
    rf'((?<![\w-])--{_PART}{_WORDS}{_PART}(?:[= ]|", ")|(?<![\w-]){_PART}{_WORDS}{_PART}=)(?!--)[^\s",]+',
    re.IGNORECASE,
)
_LOGIN: Final = re.compile(r"(://)[^/@\s\"]{1,256}@")
_QUERY: Final = re.compile(r"(https?://[^\s?'\"]{1,256})\?[^\s'\"]+")  # a signed address opens a file by it
_LONGEST: Final = 400  # characters of a text that are looked at; far fewer are shown


def names_secret(name: str) -> bool:
    """Whether an environment variable of this name holds a secret itself."""
    return bool(_VARIABLE.search(name.upper()))


def is_secret(name: str, value: Any) -> bool:
    """Whether `value`, written under a name that the API does not know, may be a secret: a reference to one is none."""
    if value is None or isinstance(value, bool) or not _NAME.search(name):
        return False
    if isinstance(value, int | float):
        return "tokens" not in name.lower()  # a number of tokens
    return not (isinstance(value, Mapping) and "name" in value)


def without_tokens(text: str) -> str:
    """The beginning of `text`, of each token in it the prefix alone, of `--api-key=value` the option, and of an address
    neither the login nor the query."""
    text = _LOGIN.sub(rf"\1{HIDDEN}@", _QUERY.sub(rf"\1?{HIDDEN}", text[:_LONGEST]))
    return _WRITTEN.sub(rf"\1{HIDDEN}", _TOKEN.sub(rf"\1{HIDDEN}", text))


def without_secrets(found: Mapping[Any, Any]) -> dict[Any, Any]:
    """`found` with the values hidden that its own names call secret."""
    of_variable = "value" in found and names_secret(str(found.get("name", "")))
    return {
        name: HIDDEN if _is_hidden(str(name), value) or (name == "value" and of_variable) else value
        for name, value in found.items()
    }


def without_variables(value: Any) -> Any:
    """`value` with what it has as secrets of environment variables hidden, however deep they are, and in any text
    tokens and logins."""
    if isinstance(value, str):
        return _TOKEN.sub(rf"\1{HIDDEN}", _LOGIN.sub(rf"\1{HIDDEN}@", value))
    if isinstance(value, list | tuple):
        return [without_variables(one) for one in value]
    if not isinstance(value, Mapping):
        return value
    of_variable = bool(value.get("value")) and names_secret(str(value.get("name", "")))
    shown = {name: without_variables(part) for name, part in value.items()}
    return {**shown, "value": HIDDEN} if of_variable else shown


def _is_hidden(name: str, value: Any) -> bool:
    """`key` alone is the entry of a Secret, or the key of a taint."""
    return name != "key" and is_secret(name, value)
