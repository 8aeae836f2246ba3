"""Who comes from other tools is told what a thing is called here, by messages and docs/how-to/migrate.md alike."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from unit.api_objects import endpoint

from sglang_operator.api import InvalidEndpoint, parse_endpoint
from sglang_operator.api.engine_args import PLATFORM_OWNED, table
from sglang_operator.api.fields import fields_of, part_of
from sglang_operator.api.other_tools import FIELDS, VLLM_ARGUMENTS
from sglang_operator.api.spec import SGLangEndpoint

MIGRATE = Path(__file__).parents[2] / "docs" / "how-to" / "migrate.md"
WORD = re.compile(r"spec(?:\.\w+)+|\b[a-z]+(?:_[a-z]+)+\b")  # paths, and names of arguments


def remedies(spec: Mapping[str, Any]) -> list[str]:
    with pytest.raises(InvalidEndpoint) as caught:
        parse_endpoint(endpoint(**spec))
    return [error.remedy for error in caught.value.errors]


def names_something(word: str) -> bool:
    """Whether it is a field of the API or an argument of SGLang."""
    if not word.startswith("spec."):
        return word in table().arguments
    model: Any = SGLangEndpoint
    for name in word.split("."):
        if model is None:  # inside a free mapping, such as podTemplate.worker
            return True
        if name not in fields_of(model):
            return False
        model = part_of(fields_of(model)[name])
    return True


def rows() -> Iterator[tuple[list[str], str]]:
    """(arguments, what to write) of each row of the page's table of vLLM's options."""
    section = MIGRATE.read_text().partition("## From `vllm serve`")[2].partition("What clients may notice")[0]
    for line in section.splitlines():
        if line.startswith("| `--"):
            options, here = line.strip("| ").split(" | ", 1)
            yield [one.replace("-", "_") for one in re.findall(r"`--([\w-]+)(?: …)?`", options)], here


@pytest.mark.parametrize(
    "remedy", sorted({*VLLM_ARGUMENTS.values(), *(r for of in FIELDS.values() for r in of.values())})
)
def test_a_remedy_names_what_exists(remedy: str) -> None:
    assert all(map(names_something, WORD.findall(remedy)))


@pytest.mark.parametrize("name", sorted(VLLM_ARGUMENTS))
def test_an_argument_of_vllm_is_answered(name: str) -> None:
    known = table().arguments
    assert name not in known
    assert not any(name in argument.aliases for argument in known.values()), "SGLang takes it: it is never looked up"
    for spelling in (name, f"--{name.replace('_', '-')}"):
        assert remedies({"engine": {"args": {spelling: 1}}}) == [VLLM_ARGUMENTS[name]]


@pytest.mark.parametrize(("path", "name"), [(path, name) for path, names in FIELDS.items() for name in names])
def test_a_field_of_another_tool_is_answered(path: str, name: str) -> None:
    assert names_something(f"{path}.replicas" if path == "spec" else path)
    part = path.removeprefix("spec").removeprefix(".")
    spec: dict[str, Any] = {name: 1}
    for outer in reversed(part.split(".") if part else []):
        spec = {outer: spec}
    if part == "model":
        spec["model"]["uri"] = "hf://a/b"
    if part == "scaling":
        spec["scaling"]["max"] = 2
    assert FIELDS[path][name] in remedies(spec)


def test_the_page_says_what_the_messages_say() -> None:
    """Each option of the page is one that SGLang takes, one that the platform sets, or one that is answered."""
    found = list(rows())
    assert len(found) > 20
    aliases = {alias for argument in table().arguments.values() for alias in argument.aliases}
    for arguments, here in found:
        for name in arguments:
            assert name in {*table().arguments, *PLATFORM_OWNED, *aliases, *VLLM_ARGUMENTS}, name
            missing = [
                word for word in WORD.findall(VLLM_ARGUMENTS.get(name, "")) if word.rpartition(".")[2] not in here
            ]
            assert not missing, (name, missing, here)


def test_the_page_has_the_fields_of_other_operators() -> None:
    section = MIGRATE.read_text().partition("| field of KServe")[2].partition("\n\n")[0]
    found = [line.strip("| ").split(" | ", 1) for line in section.splitlines() if line.startswith("| `")]
    assert len(found) > 10
    for names, here in found:
        for name in re.findall(r"`([\w.]+)`", names):
            part, _, last = f"spec.{name}".rpartition(".")
            missing = [word for word in re.findall(r"spec(?:\.\w+)+", FIELDS[part][last]) if word not in here]
            assert not missing, (name, missing, here)


@pytest.mark.parametrize(
    ("spec", "remedy"),
    [
        ({"resources": {"maxx": 1}}, "remove it, or use one of: cpu, memory, sharedMemory, ephemeralStorage"),
        ({"head": {"uri": 1}}, "remove it, or use one of: cpu, memory"),
    ],
)
def test_below_an_object_a_field_of_another_is_no_guess(spec: dict[str, Any], remedy: str) -> None:
    assert remedies(spec) == [remedy]


def test_all_values_that_begin_so_are_offered() -> None:
    (remedy,) = remedies({"engine": {"args": {"kv_cache_dtype": "fp8"}}})
    assert remedy == 'did you mean "fp8_e4m3" or "fp8_e5m2"?'


@pytest.mark.parametrize("args", [{"disaggregation_mode": "prefill"}, {"encoder_only": True}])
def test_half_a_server_is_refused(args: dict[str, Any]) -> None:
    (remedy,) = remedies({"engine": {"args": args}})
    assert "an endpoint is a whole server" in remedy
