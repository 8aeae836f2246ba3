"""`kubectl sglang args` as a user calls it: finding an argument of the engine."""

from __future__ import annotations

import json

import pytest
import yaml
from click.testing import CliRunner, Result

from sglang_operator.api.engine_args import table
from sglang_operator.cli.main import group


def args(*words: str) -> Result:
    return CliRunner().invoke(group, ["args", *words], prog_name="kubectl sglang")


def names(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return [line.split()[0] for line in result.stdout.splitlines()[1:]]


def test_all_are_listed_a_line_each() -> None:
    assert names(args()) == list(table().arguments)


def test_words_are_looked_for_in_names_and_help() -> None:
    found = names(args("radix", "cache"))
    assert "disable_radix_cache" in found
    assert "mem_fraction_static" not in found
    assert 1 < len(found) < len(names(args("radix")))


@pytest.mark.parametrize("spelling", ["kv_cache_dtype", "kv-cache-dtype", "--kv-cache-dtype"])
def test_one_is_shown_in_full(spelling: str) -> None:
    said = args(spelling).stdout.splitlines()
    assert said[0] == "kv_cache_dtype: text"
    assert said[1].startswith("  Data type for kv cache storage.")
    assert said[2].startswith("  values: auto, bf16, bfloat16, ")
    assert said[3] == '  default: "auto"'


@pytest.mark.parametrize("spelling", ["tensor-parallel-size", "--tp", "tp"])
def test_another_spelling_of_sglang_finds_it(spelling: str) -> None:
    assert args(spelling).stdout.splitlines()[:2] == [
        "tp_size: a whole number",
        "  set by the platform: use spec.parallelism.tensor",
    ]


@pytest.mark.parametrize(
    ("word", "remedy"),
    [("max_model_len", "use context_length"), ("mem_fraction_sttic", "did you mean mem_fraction_static?")],
)
def test_a_name_that_is_not_there_is_answered(word: str, remedy: str) -> None:
    result = args(word)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: SGLang {table().sglang} has no argument with {word} in its name or help")
    assert remedy in result.stderr


def test_json_and_yaml_have_all_that_is_known() -> None:
    (row,) = json.loads(args("tp_size", "-o", "json").stdout)
    assert (row["name"], row["type"], row["setByPlatform"]) == ("tp_size", "int", "use spec.parallelism.tensor")
    assert list(yaml.safe_load_all(args("tp_size", "-o", "yaml").stdout)) == [row]
