"""ServeArgs to SGLang's arguments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sglang_serve.args import ModelArgs, ParallelArgs, ServeArgs, to_wire
from sglang_serve.args import serve_args as read_args
from sglang_serve.engine_args import Place, engine_args, engine_environment

MODEL = Path("/m")


def serve_args(**fields: Any) -> ServeArgs:
    return ServeArgs(endpoint="qwen", model=ModelArgs(uri="file:///m"), **fields)


def test_the_platform_wins_over_the_user_and_the_user_over_our_defaults() -> None:
    found = engine_args(serve_args(engine={"max_total_tokens": 7, "port": 1, "model_path": "/x"}), MODEL, Place(15_000))
    assert (found["max_total_tokens"], found["port"], found["model_path"]) == (7, 15_000, "/m")


@pytest.mark.parametrize(
    ("uri", "load_format", "path"),
    [
        ("s3://bucket/m", "runai_streamer", "s3://bucket/m"),
        ("gs://bucket/m", "runai_streamer", "gs://bucket/m"),
        ("s3://bucket/m", "auto", "/m"),
        ("hf://owner/m", "runai_streamer", "/m"),
    ],
)
def test_a_format_that_streams_gets_the_address(uri: str, load_format: str, path: str) -> None:
    args = ServeArgs(endpoint="qwen", model=ModelArgs(uri=uri), engine={"load_format": load_format})
    assert engine_args(args, MODEL, Place(1))["model_path"] == path


@pytest.mark.parametrize(("vendor", "device"), [("cpu", "cpu"), ("nvidia", "cuda"), ("amd", "cuda")])
def test_device(vendor: Any, device: str) -> None:
    assert engine_args(serve_args(vendor=vendor), MODEL, Place(1))["device"] == device


def test_only_a_cpu_gets_token_limits_and_an_idle_scheduler_that_sleeps() -> None:
    assert {"max_total_tokens", "max_running_requests", "sleep_on_idle"} <= engine_args(
        serve_args(), MODEL, Place(1)
    ).keys()
    assert not {"max_total_tokens", "sleep_on_idle"} & engine_args(serve_args(vendor="nvidia"), MODEL, Place(1)).keys()


def test_task_parallelism_and_name() -> None:
    args = serve_args(task="embed", parallelism=ParallelArgs(tensor=2, pipeline=3, data=4))
    found = engine_args(args, MODEL, Place(1))
    assert (found["tp_size"], found["pp_size"], found["dp_size"]) == (2, 3, 4)
    assert (found["is_embedding"], found["served_model_name"]) == (True, "qwen")


def test_a_replica_on_several_nodes() -> None:
    parallelism = ParallelArgs(tensor=4, pipeline=2, attention_data=2, expert=4, nodes=4)
    found = engine_args(serve_args(parallelism=parallelism), MODEL, Place(15_000, 3, "10.0.0.1:15001"))
    assert (found["attn_dp_size"], found["ep_size"], found["nnodes"]) == (2, 4, 4)
    assert (found["node_rank"], found["dist_init_addr"], found["port"]) == (3, "10.0.0.1:15001", 15_000)


def test_what_one_node_does_not_need_is_not_set() -> None:
    several = {"attn_dp_size", "ep_size", "nnodes", "node_rank", "dist_init_addr"}
    assert not several & engine_args(serve_args(), MODEL, Place(1)).keys()


def test_what_is_not_used_is_not_on_the_wire() -> None:
    """An image of an earlier version refuses names that it does not know."""
    assert to_wire(serve_args(engine={"quantization": None}))["parallelism"] == {"tensor": 1, "pipeline": 1, "data": 1}
    assert to_wire(serve_args(engine={"quantization": None}))["engine"] == {"quantization": None}
    used = serve_args(parallelism=ParallelArgs(tensor=4, attention_data=2, nodes=2))
    assert read_args(to_wire(used)) == used


def test_keys_never_come_from_the_wire() -> None:
    assert not {"api_key", "admin_api_key"} & engine_args(serve_args(), MODEL, Place(1)).keys()
    first, second = (engine_args(serve_args(admin=True), MODEL, Place(1))["admin_api_key"] for _ in range(2))
    assert first != second


@pytest.mark.parametrize(
    ("ranks", "cores", "bind"),
    [
        (2, [0, 1], "0|1"),
        (2, [4, 5, 8, 9], "4,5|8,9"),
        (4, [6, 7], "6|7|6|7"),
        (3, range(8), "0,1|2,3|4,5"),
    ],
)
def test_ranks_on_a_cpu_share_its_cores(ranks: int, cores: Sequence[int], bind: str) -> None:
    found = engine_environment(serve_args(parallelism=ParallelArgs(tensor=ranks)), cores)
    assert found["SGLANG_CPU_OMP_THREADS_BIND"] == bind
    assert not Path(found["SGLANG_NCCL_SO_PATH"]).exists()


def test_ranks_of_one_node_share_the_cores_of_that_node() -> None:
    found = engine_environment(serve_args(parallelism=ParallelArgs(tensor=4, nodes=2)), range(8))
    assert found["SGLANG_CPU_OMP_THREADS_BIND"] == "0,1,2,3|4,5,6,7|0,1,2,3|4,5,6,7"


def test_a_single_rank_may_use_every_core() -> None:
    assert engine_environment(serve_args(), range(8)) == {"SGLANG_USE_CPU_ENGINE": "1"}
    assert engine_environment(serve_args(vendor="nvidia"), range(8)) == {}


def test_without_a_compiler_nothing_is_compiled() -> None:
    """The CPU image has none: found when two ranks started in its pods."""
    assert engine_environment(serve_args(), range(8), has_compiler=False)["TORCH_COMPILE_DISABLE"] == "1"
    assert engine_environment(serve_args(vendor="amd"), range(8), has_compiler=False) == {}
