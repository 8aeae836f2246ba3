"""LoRA adapters in status: a row for each, and one that failed is no reason not to be Ready."""

from __future__ import annotations

import pytest
from apiserver.rollouts import Object, Stage
from apiserver.test_conditions import Run, run

from sglang_operator.api import parse_endpoint
from sglang_operator.cluster.paths import ENDPOINT
from sglang_operator.cluster.probe import Adapter
from sglang_operator.cluster.types import Key
from sglang_operator.render.serve_config import live_args

__all__ = ["run"]
MODEL: Object = {
    "uri": "hf://HuggingFaceTB/SmolLM2-135M-Instruct",
    "lora": {"maxRank": 16, "maxLoaded": 2},
    "adapters": [{"name": name, "uri": f"hf://org/{name}"} for name in ("sql", "absent")],
}
ROWS = [
    {"name": "sql", "state": "Loaded", "replicas": "2/2", "message": ""},
    {"name": "absent", "state": "Failed", "replicas": "0/2", "message": "the hub has no model org/absent"},
]


@pytest.mark.parametrize("is_current", [True, False], ids=["the settings of now", "those before"])
def test_each_adapter_has_a_row_and_a_failed_one_keeps_nothing_from_serving(run: Run, is_current: bool) -> None:
    async def body(on: Stage, key: Key) -> None:
        on.engines.adapters = tuple(Adapter(row["name"], row["state"], row["message"]) for row in ROWS)
        live = await on.api.get(ENDPOINT.of(*key))
        on.engines.config = live_args(parse_endpoint(live)).config_id if is_current else "another"
        await on.serve(key)
        status = (await on.api.get(ENDPOINT.of(*key)))["status"]
        states = {row["name"]: row["state"] for row in status["adapters"]}
        assert status["adapters"] == ROWS if is_current else set(states.values()) == {"Loading"}
        assert (await on.on.condition(key, "Ready"))["status"] == "True"

    run(body, model=MODEL, replicas=2)
