"""What bench/serving.py makes of its rounds, what it measures by default, and the commands that the documents show."""

from __future__ import annotations

import re
import shlex
import subprocess
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import serving_load
import serving_models
import yaml
from serving import NATIVE, OURS, options_of, read_endpoint, shortfalls, table, versus

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "bench"
PERFORMANCE = (ROOT / "docs" / "performance.md").read_text()
# The commands that the page shows, each without what stands behind them.
SHOWN = [
    line.partition("#")[0] for line in re.findall(r"python bench/serving\.py(.*)", PERFORMANCE.replace("\\\n", ""))
]


def row(server: str, number: int, rps: float, ttft: float = 10.0, **others: Any) -> dict[str, Any]:
    times = {"ttft_p50": ttft, "ttft_p99": ttft * 2, "itl_p50": 1.0, "itl_p99": 3.0}
    return {"server": server, "round": number, "concurrency": 32, "errors": 0, **times, "rps": rps, **others}


# In the third round the machine was slow for both.
NATIVES = [row(NATIVE, 0, 20.0), row(NATIVE, 1, 20.0), row(NATIVE, 2, 10.0, 30.0)]
OURS_TOO = [row(OURS, 0, 19.0, 11.0), row(OURS, 1, 18.0, 12.0), row(OURS, 2, 10.5, 30.5, errors=2)]


def test_a_ratio_is_taken_within_a_round() -> None:
    ratio, later = versus({NATIVE: NATIVES, OURS: OURS_TOO})
    assert ratio == "**0.950** (0.900 to 1.050)", "the medians alone, 18 and 20, would say 0.9"
    assert later == "+1.0 ms"


def test_a_required_ratio_and_failed_requests_are_told() -> None:
    rows = [*NATIVES, *OURS_TOO]
    assert shortfalls(rows, 0.95) == ["c=32: 2 requests failed"]
    assert shortfalls(rows, 0.98)[0] == "c=32: 0.950 of native, at least 0.98 is required"


def test_rounds_without_a_partner_are_no_comparison() -> None:
    with pytest.raises(ValueError, match="shorter"):
        versus({NATIVE: NATIVES, OURS: OURS_TOO[:2]})


def test_the_table_has_a_pair_of_rows_for_each_concurrency() -> None:
    alone = [{**one, "concurrency": 1} for one in (NATIVES[0], OURS_TOO[0])]
    assert table([*reversed(OURS_TOO), *reversed(NATIVES), *alone]).splitlines()[2:] == [
        "| 1 | native | 20.00 | 10.0 / 20.0 | 1.0 / 3.0 | 0 |  |  |",
        "| 1 | ours | 19.00 | 11.0 / 22.0 | 1.0 / 3.0 | 0 | **0.950** (0.950 to 0.950) | +1.0 ms |",
        "| 32 | native | 20.00 | 10.0 / 20.0 | 1.0 / 3.0 | 0 |  |  |",
        "| 32 | ours | 18.00 | 12.0 / 24.0 | 1.0 / 3.0 | 2 | **0.950** (0.900 to 1.050) | +1.0 ms |",
    ]


def test_the_defaults_are_those_of_the_documented_run() -> None:
    """docs/performance.md, "Two CPU cores": five rounds, 8 requests per connection and round (at least 24), …"""
    found = options_of([])
    assert found.endpoint == BENCH / "tiny-cpu.yaml"
    assert (found.concurrency, found.rounds, found.requests, found.least) == ([1, 8, 32], 5, 8, 24)
    assert (found.words, found.tokens) == (60, 32)


def test_the_documents_show_commands_that_work() -> None:
    assert len(SHOWN) >= 3
    for command in SHOWN:
        found = options_of(shlex.split(command))
        assert (ROOT / found.endpoint).is_file(), command
        assert found.rounds in {3, 5, 10}, command


def test_make_bench_needs_no_argument() -> None:
    """A dry run: what `make bench` starts must be a whole command line."""
    said = subprocess.run(["make", "-n", "bench"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (line,) = re.findall(r"python bench/serving\.py(.*)", said)
    assert options_of(shlex.split(line)).endpoint.is_file()


@pytest.mark.parametrize("name", ["tiny-cpu", "llama8b-gpu", "llama8b-embed-gpu", "llama8b-tensor-gpu"])
def test_the_model_of_each_endpoint_file_can_be_made(name: str) -> None:
    manifest = yaml.safe_load((BENCH / f"{name}.yaml").read_text())
    assert manifest["spec"]["model"]["uri"] in serving_models.MAKERS


def test_a_model_of_this_machine_replaces_it(tmp_path: Path) -> None:
    options = Namespace(endpoint=BENCH / "tiny-cpu.yaml", model_path=str(tmp_path), engine_python=Path("/none"))
    assert read_endpoint(options, tmp_path).spec.model.uri == f"file://{tmp_path}"


def test_a_model_that_is_not_ours_stays(tmp_path: Path) -> None:
    assert serving_models.make("file:///srv/model", Path("/none"), tmp_path) is None


def test_both_servers_of_a_pair_get_the_same_prompts() -> None:
    def sent(seed: int) -> list[serving_load.Request]:
        given = Namespace(seed=seed, requests=3, words=5, task="generate", model="tiny", tokens=2)
        return list(serving_load.requests(given))

    assert sent(7) == sent(7)
    assert len({str(one.body) for one in [*sent(7), *sent(10)]}) == 6, "no prompt twice: no prefix cache answers"


@pytest.mark.parametrize(("values", "percent", "found"), [([], 50, 0.0), ([1.0, 2.0, 9.0], 50, 2.0), ([1.0], 99, 1.0)])
def test_percentiles(values: list[float], percent: int, found: float) -> None:
    assert serving_load.percentile(values, percent) == found
