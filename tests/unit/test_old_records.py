"""Records that a released version wrote cause no rollout under this one.

tests/unit/data/records-v0.1.json is what v0.1 wrote for the endpoints beside them. It is never made anew: if this test
fails, a model of somebody would restart when they upgrade the operator.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sglang_operator.api import parse_endpoint
from sglang_operator.cluster.records import find_record, read_record

WRITTEN = json.loads((Path(__file__).parent / "data" / "records-v0.1.json").read_text())


@pytest.mark.parametrize("name", WRITTEN)
def test_a_record_of_v0_1_is_still_what_its_spec_asks_for(name: str) -> None:
    pair: dict[str, Any] = WRITTEN[name]
    record = read_record(pair["record"])
    assert find_record(parse_endpoint(pair["endpoint"]), [record]) == record
