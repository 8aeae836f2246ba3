"""Engine arguments against other fields: what SGLang ends at is refused, what is merely slow is said."""

from __future__ import annotations

from typing import Any

import pytest
from unit.api_objects import endpoint

from sglang_operator.api import InvalidEndpoint, parse_endpoint
from sglang_operator.cluster.findings import accepted

RDMA = {"rdma": {"resourceName": "rdma/shared"}}


def spread(args: dict[str, Any] | None = None, network: dict[str, Any] | None = None, **parallelism: int) -> Any:
    engine = {"args": args or {}}
    return endpoint(accelerator={"count": 8}, parallelism=parallelism, engine=engine, network=network or {})


@pytest.mark.parametrize(
    ("obj", "path"),
    [
        (spread({"enable_lora": True}, data=2), "spec.engine.args.enable_lora"),
        (spread({"speculative_algorithm": "EAGLE3"}, pipeline=2), "spec.engine.args.speculative_algorithm"),
        (spread({"speculative_algorithm": "NGRAM"}, pipeline=2), "spec.engine.args.speculative_algorithm"),
    ],
)
def test_what_sglang_ends_at_is_refused(obj: Any, path: str) -> None:
    with pytest.raises(InvalidEndpoint) as found:
        parse_endpoint(obj)
    assert [error.path for error in found.value.errors] == [path]
    assert "parallelism" in str(found.value) or "stages" in str(found.value)


@pytest.mark.parametrize(
    "obj",
    [
        spread({"enable_lora": True}),
        spread({"enable_lora": True, "lora_paths": ["a=/a"]}, data=2),
        spread({"speculative_algorithm": "EAGLE"}, pipeline=2),
        spread({"speculative_algorithm": "NGRAM"}, data=2),
        spread(network=RDMA, nodes=2),
        endpoint(accelerator={"vendor": "cpu"}, parallelism={"nodes": 2}),
    ],
)
def test_what_works_passes_without_a_word(obj: Any) -> None:
    assert parse_endpoint(obj).warnings == ()


@pytest.mark.parametrize(
    ("pipeline", "message", "remedy"),
    [(1, "every layer of every token", "parallelism.pipeline: 2"), (2, "stages on 2 nodes", "RDMA devices")],
)
def test_nodes_without_rdma_are_told_what_it_costs(pipeline: int, message: str, remedy: str) -> None:
    (warning,) = parse_endpoint(spread(pipeline=pipeline, nodes=2)).warnings
    assert warning.path == "spec.network.rdma"
    assert message in warning.message
    assert remedy in warning.remedy
    assert message in accepted(frozenset(), wants_route=False, warnings=(warning,)).message
