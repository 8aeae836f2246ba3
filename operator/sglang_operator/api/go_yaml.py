"""What Go takes an unquoted word of YAML for: kubectl, Helm, the API server and KubeRay all read by sigs.k8s.io/yaml.

It is neither the YAML 1.1 of Python, where `1e3` is text and `12:30` a number, nor YAML 1.2, where `y` is text. The
source is resolve.go of its goyaml.v2 (1.6.0).
"""

from __future__ import annotations

import re
from typing import Final

TEXT: Final = "tag:yaml.org,2002:str"
NULL: Final = "tag:yaml.org,2002:null"
BOOL: Final = "tag:yaml.org,2002:bool"
INT: Final = "tag:yaml.org,2002:int"
FLOAT: Final = "tag:yaml.org,2002:float"
MERGE: Final = "tag:yaml.org,2002:merge"

_TRUE: Final = ("y", "yes", "true", "on")
_FALSE: Final = ("n", "no", "false", "off")
_INFINITE: Final = (".inf", "+.inf", "-.inf")
_NUMBER: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WHOLE: Final = re.compile(r"[-+]?(0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|0|[1-9][0-9]*)")


def _cases(word: str) -> tuple[str, ...]:
    return word, word.capitalize(), word.upper()


_WORDS: Final = {
    **{text: BOOL for word in (*_TRUE, *_FALSE) for text in _cases(word)},
    **dict.fromkeys(("", "~", *_cases("null")), NULL),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), FLOAT),
    **{text.replace("inf", case): FLOAT for text in _INFINITE for case in ("inf", "Inf", "INF")},
    "<<": MERGE,
}


def tag_of(text: str) -> str:
    """The tag of an unquoted scalar."""
    if text in _WORDS:
        return _WORDS[text]
    plain = digits_of(text)
    if _WHOLE.fullmatch(plain):
        return INT
    return FLOAT if _NUMBER.fullmatch(plain) else TEXT


def truth_of(text: str) -> bool:
    """What a scalar with the tag BOOL says."""
    return text.lower() in _TRUE


def whole_of(text: str) -> int:
    """What a scalar with the tag INT says. A leading zero means octal."""
    plain = digits_of(text)
    digits = plain.lstrip("+-")
    base = 8 if digits[:1] == "0" and digits.isdecimal() else 0
    return int(plain, base)


def digits_of(text: str) -> str:
    """A number without the underscores that may be anywhere in it, but not at its beginning."""
    return text.replace("_", "") if text[:1] in "+-0123456789" else text
