"""Words and numbers of YAML as Go takes them; tests/apiserver/test_yaml_words.py asks kubectl whether this is true."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from sglang_operator.api.yaml_loader import Loader
from sglang_operator.render import to_yaml

WORDS: dict[str, Any] = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "true", "True", "TRUE"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "off", "Off", "OFF", "false", "False", "FALSE"), False),
    **dict.fromkeys(("null", "Null", "NULL", "~"), None),
    "1e3": 1000.0,
    "1E5": 100000.0,
    "1e-1": 0.1,
    "0X1F": 31,
    "-0x1F": -31,
    "0B1": 1,
    "0O7": 7,
    "0o17": 15,
    "0123": 83,
    "08": 8.0,
    "-_1": -1,
    "+5": 5,
    "1_000": 1000,
    "1.10": 1.1,
    ".5": 0.5,
    "5.": 5.0,
}
# What is no word to Go, though it is one to somebody else.
TEXTS = ("yEs", "oN", "nul", "nULL", "12:30", "1:2:3", "2024-01-01", "_1", "0x", "0b2", "e5", "1e", "+", "1.2.3")


@pytest.mark.parametrize(("word", "value"), WORDS.items())
def test_a_word_is_what_go_takes_it_for(word: str, value: Any) -> None:
    read = yaml.load(word, Loader)
    assert (type(read), read) == (type(value), value)


@pytest.mark.parametrize("text", TEXTS)
def test_anything_else_is_text(text: str) -> None:
    assert yaml.load(text, Loader) == text


@pytest.mark.parametrize("text", [*WORDS, *TEXTS, "", "<<", ".inf", ".NaN", "="])
@pytest.mark.parametrize("loader", [Loader, yaml.CSafeLoader])
def test_text_is_written_so_that_every_reader_takes_it_for_text(text: str, loader: Any) -> None:
    assert yaml.load(to_yaml({"labels": {"a": text}}), loader) == {"labels": {"a": text}}


def test_keys_are_words_too() -> None:
    assert yaml.load("{y: 1, 12:30: 2, 'no': 3}", Loader) == {True: 1, "12:30": 2, "no": 3}


def test_a_key_that_is_there_twice_is_refused() -> None:
    with pytest.raises(yaml.constructor.ConstructorError, match="key 'a' is there twice"):
        yaml.load("{a: 1, a: 2}", Loader)
