"""Words and numbers of YAML, read by the real kubectl: the CLI takes them so too, and its own text stays text."""

from __future__ import annotations

import json
import math
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from localcluster.tools import program
from unit.test_go_yaml import TEXTS, WORDS

from sglang_operator.api.yaml_loader import Loader
from sglang_operator.render import to_yaml

if TYPE_CHECKING:
    from apiserver.conftest import ControlPlane

ALL = [*WORDS, *TEXTS, "12:30:45", "2024-01-01T00:00:00Z", "09.5", "1__0", "1.e3", "1_0.5", "-0", "0_7", "-0o7", "="]
UNKNOWN = {
    "apiVersion": "a/v1",
    "kind": "X",
    "metadata": {"name": "x"},
}  # no schema that would turn a value into another


@pytest.fixture(autouse=True)
def kubectl(control_plane: ControlPlane) -> None:
    """It is built with the control plane, which nothing here asks."""


def read_by_kubectl(document: str) -> list[Any]:
    """The list `values` of an object, as kubectl hands it on."""
    command = [str(program("kubectl")), "annotate", "--local", "-f", "-", "a=b", "-o", "json"]
    done = subprocess.run(command, input=document, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    values: list[Any] = json.loads(done.stdout)["values"]
    return values


def test_a_word_is_to_the_cli_what_it_is_to_kubectl() -> None:
    document = to_yaml(UNKNOWN) + "values:\n" + "".join(f"- {word}\n" for word in ALL)
    ours = yaml.load(document, Loader)["values"]
    differ = [
        (word, theirs, own)
        for word, theirs, own in zip(ALL, read_by_kubectl(document), ours, strict=True)
        if not same(theirs, own)
    ]
    assert differ == []


def same(theirs: Any, own: Any) -> bool:
    """JSON has one kind of number, so that 8.0 may come back as 8; a boolean is none."""
    kinds = {type(theirs), type(own)}
    return math.isclose(theirs, own) if kinds == {int, float} else theirs == own and len(kinds) == 1


def test_text_stays_text() -> None:
    texts = [*ALL, "", ".inf", "-.INF", ".NaN", "<<"]
    assert read_by_kubectl(to_yaml({**UNKNOWN, "values": texts})) == texts
