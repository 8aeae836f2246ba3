from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from unit.api_objects import endpoint

from sglang_operator.api import Endpoint, FieldError, InvalidEndpoint, parse_endpoint
from sglang_operator.api.engine_args import LORA_OWNED, PLATFORM_OWNED, doubtful_args, table
from sglang_operator.api.engine_ranges import DOUBTFUL, REFUSED, doubtful
from sglang_operator.api.spec_model import LoraModule
from sglang_operator.api.versions import versions
from sglang_serve.args import LoraArgs, ModelArgs, ParallelArgs, ServeArgs
from sglang_serve.engine_args import Place, engine_args


def parsed(args: dict[str, Any], **engine: Any) -> Endpoint:
    return parse_endpoint(endpoint(engine={"args": args, **engine}))


def only_error(args: dict[str, Any], **engine: Any) -> FieldError:
    with pytest.raises(InvalidEndpoint) as caught:
        parsed(args, **engine)
    (error,) = caught.value.errors
    return error


@pytest.mark.parametrize(
    "args",
    [
        {"mem_fraction_static": 0.85, "max_running_requests": 64, "schedule_policy": "lpm"},
        {"mem_fraction_static": 1},
        {"context_length": None},
        {"sleep_on_idle": True},
        {"numa_node": [0, 1], "lora_target_modules": ["q_proj", "v_proj"]},
        {"preferred_sampling_params": {"temperature": 0}, "lora_paths": {"sql": "/models/sql"}},
        {"tool_call_parser": "qwen25", "reasoning_parser": None},
    ],
)
def test_what_sglang_takes_is_passed_on_unchanged(args: dict[str, Any]) -> None:
    assert parsed(args).spec.engine.args == args


def test_every_argument_takes_its_default() -> None:
    ours = set(PLATFORM_OWNED) | set(LORA_OWNED)
    defaults = {name: one.default for name, one in table().arguments.items() if name not in ours}
    assert len(defaults) > 400
    assert doubtful_args(defaults) == ()
    half = dict(list(defaults.items())[:256])  # as many as a spec takes
    assert parsed(half).spec.engine.args == half


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("mem_fraction_sttic", "mem_fraction_static"),
        ("memFractionStatic", "mem_fraction_static"),
        ("mem-fraction-static", "mem_fraction_static"),
        ("--mem-fraction-static", "mem_fraction_static"),
        ("decode_context_parallel_size", "dcp_size"),
    ],
)
def test_unknown_argument_names_the_closest(name: str, meant: str) -> None:
    error = only_error({name: 1})
    assert error.message == f"SGLang {table().sglang} has no such argument"
    assert error.remedy == f"did you mean {meant}?"


def test_unknown_argument_without_a_close_one() -> None:
    error = only_error({"zzz": 1})
    assert error.path == "spec.engine.args.zzz"
    assert "argsCheck: Warn" in error.remedy


@pytest.mark.parametrize(
    ("args", "message", "remedy"),
    [
        ({"mem_fraction_static": "0.85"}, "must be a number", "remove the quotes"),
        ({"mem_fraction_static": "most"}, "must be a number", "SGLang's help: The fraction of the memory"),
        ({"max_running_requests": 4.5}, "must be a whole number", "SGLang's help: The maximum number of running"),
        ({"page_size": True}, "must be a whole number", "SGLang's help"),
        ({"sleep_on_idle": "true"}, "must be true or false", "remove the quotes"),
        ({"sleep_on_idle": "on"}, "must be true or false", "Default false."),
        ({"sleep_on_idle": None}, "must be true or false", "Default false."),
        ({"dtype": 16}, "must be text", "put it in quotes, as it is written in the file"),
        ({"dtype": True}, "must be text", "put it in quotes, as it is written in the file"),
        ({"numa_node": [0, "a"]}, "must be a list, each entry a whole number", "SGLang's help"),
        ({"attention_backend": "tritn"}, "is none of the values", 'did you mean "triton"? Or one of: aiter, ascend'),
        ({"attention_backend": "FLASH_ATTN"}, "is none of the values", ", fa3, fa4, flashinfer,"),
        ({"reasoning_parser": "deepseek_r1"}, "is none of the values", 'did you mean "deepseek-r1"?'),
        ({"tokenizer_path": "hf://org/name"}, "knows no hf:// addresses", "write org/name"),
        ({"speculative_draft_model_path": "hf://org/name"}, "knows no hf:// addresses", "write org/name"),
        ({"context_length": -1}, "must be at least 2", "leave it out for SGLang's default"),
        ({"mem_fraction_static": 0}, "is a fraction", "leave it out: SGLang computes one"),
        ({"swa_full_tokens_ratio": 1.5}, "must be above 0 and at most 1", "leave it out for SGLang's default"),
        ({"random_seed": -1}, "must be at least 0 and at most 4294967295", "leave it out for SGLang's default"),
        ({"lora_target_modules": ["q_proj", "?"]}, "is none of the values", "use one of: all, down_proj"),
    ],
)
def test_wrong_value(args: dict[str, Any], message: str, remedy: str) -> None:
    error = only_error(args)
    assert message in error.message
    assert remedy in error.remedy


@pytest.mark.parametrize("name", sorted({*REFUSED, *DOUBTFUL}))
def test_a_range_is_of_an_argument_that_is_a_number(name: str) -> None:
    argument = table().arguments[name]
    assert set(argument.type.split("|")) & {"int", "float"}
    assert doubtful_args({name: argument.default}) == ()
    assert [*doubtful({name: argument.default})] == []


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_sglang_ends_at_is_a_warning_where_the_image_may_differ(name: str) -> None:
    (warning,) = parsed({name: -1}, image="registry/own:1", argsCheck="Warn").warnings
    assert (warning.path, warning.value) == (f"spec.engine.args.{name}", -1)
    assert only_error({name: -1}) == warning


@pytest.mark.parametrize("name", sorted(set(DOUBTFUL) - set(REFUSED)))
def test_a_number_that_nobody_means_is_a_warning(name: str) -> None:
    (warning,) = parsed({name: -1}).warnings
    assert warning.path == f"spec.engine.args.{name}"
    assert "leave it out" in warning.remedy


@pytest.mark.parametrize(
    ("found", "remedy"), [(85, "write 0.85"), (100, "write 1"), (2, "write 0.02"), (1.5, "leave"), (500, "leave")]
)
def test_a_percentage_of_memory(found: float, remedy: str) -> None:
    (warning,) = parsed({"mem_fraction_static": found}).warnings
    assert "is a fraction" in warning.message
    assert warning.remedy.startswith(remedy)


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("tp_size", "spec.parallelism.tensor"),
        ("tensor_parallel_size", "spec.parallelism.tensor"),
        ("--tensor-parallel-size", "spec.parallelism.tensor"),
        ("tp", "spec.parallelism.tensor"),
        ("--dp", "spec.parallelism.data"),
        ("pp", "spec.parallelism.pipeline"),
        ("ep", "spec.parallelism.expert"),
        ("port", "spec.api.service.port"),
        ("model", "spec.model.uri"),
        ("is_embedding", "spec.task"),
    ],
)
def test_owned_by_the_platform(name: str, field: str) -> None:
    error = only_error({name: 1})
    assert error.message == "is set by the platform"
    assert field in error.remedy


def test_a_key_is_never_repeated() -> None:
    error = only_error({"api_key": "hunter2"})
    assert "spec.api.keysSecret" in error.remedy
    assert "hunter2" not in str(error)


def test_owned_arguments_exist_in_sglang_and_name_fields_that_exist() -> None:
    known = table().arguments
    assert set(PLATFORM_OWNED) <= set(known)
    spec: Any = parse_endpoint(endpoint(api={"ingress": {}, "allowAnonymous": True})).spec.model_dump(by_alias=True)
    for remedy in PLATFORM_OWNED.values():
        for word in remedy.replace(":", " ").replace(",", " ").split():
            if word.startswith("spec."):
                node = spec
                for part in word.split(".")[1:]:
                    assert part in node, remedy
                    node = node[part]


def test_what_a_replica_sets_itself_is_refused() -> None:
    """Otherwise the user's value would be overwritten without a word."""
    parallelism = ParallelArgs(2, attention_data=2, expert=2, nodes=2)
    ours = {"log_level"}  # a default of ours, which the user's value replaces
    args = ServeArgs(
        endpoint="e", model=ModelArgs(uri="hf://a/b"), vendor="nvidia", admin=True, parallelism=parallelism
    )
    found = engine_args(args, Path("/models/m"), Place(1, 1, "10.0.0.1:2"))
    assert set(found) - ours <= set(PLATFORM_OWNED)


def test_warn_leaves_the_check_to_the_replica() -> None:
    endpoint_ = parsed({"brand_new": 1, "page_size": "big"}, image="registry/own:1", argsCheck="Warn")
    assert [warning.path for warning in endpoint_.warnings] == [
        "spec.engine.args.brand_new",
        "spec.engine.args.page_size",
    ]
    assert endpoint_.spec.engine.args == {"brand_new": 1, "page_size": "big"}


def test_warn_still_refuses_what_the_platform_owns() -> None:
    error = only_error({"port": 1, "brand_new": 1}, image="registry/own:1", argsCheck="Warn")
    assert error.path == "spec.engine.args.port"


def test_table_is_of_the_pinned_version() -> None:
    assert table().sglang == versions()["sglang"]


@pytest.mark.parametrize("name", sorted(LORA_OWNED))
def test_arguments_of_adapters_are_the_platforms_where_the_spec_reserves_room(name: str) -> None:
    args = {name: table().arguments[name].default}
    with pytest.raises(InvalidEndpoint) as caught:
        parse_endpoint(endpoint(model={"uri": "hf://a/b", "lora": {}}, engine={"args": args}))
    assert [error.remedy for error in caught.value.errors] == [LORA_OWNED[name]]
    assert parsed(args)


def test_the_modules_of_the_api_are_those_of_sglang() -> None:
    assert set(get_args(LoraModule)) == set(table().arguments["lora_target_modules"].choices)


@pytest.mark.parametrize(
    ("most", "args", "batch", "loaded"), [(1, {}, 2, 2), (64, {}, 8, 65), (2, {"max_loras_per_batch": 6}, 6, 6)]
)
def test_the_base_model_counts_among_a_batchs_adapters(
    most: int, args: dict[str, int], batch: int, loaded: int
) -> None:
    serve = ServeArgs("e", ModelArgs("file:///m"), engine=args, lora=LoraArgs(16, ["all"], most))
    made = engine_args(serve, Path("/m"), Place(1))
    assert (made["max_loras_per_batch"], made["max_loaded_loras"]) == (batch, loaded)
    assert (made["enable_lora"], made["max_lora_rank"], made["lora_target_modules"]) == (True, 16, ["all"])
