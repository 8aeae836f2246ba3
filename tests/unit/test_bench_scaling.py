"""What bench/scaling.py starts, which loads it sends, and what it makes of its rounds."""

from __future__ import annotations

import re
import shlex
from argparse import Namespace
from pathlib import Path
from typing import Any

import scaling
import yaml
from scaling import ONE, options_of, ratio, shapes, table

from sglang_operator.api import parse_endpoint

ROOT = Path(__file__).parents[2]
PERFORMANCE = (ROOT / "docs" / "performance.md").read_text()
MANIFEST = yaml.safe_load((ROOT / "bench" / "llama8b-gpu.yaml").read_text())


def row(server: str, number: int, concurrency: int, rps: float) -> dict[str, Any]:
    times = {"ttft_p50": 10.0, "ttft_p99": 20.0, "itl_p50": 1.0}
    replicas = 2 if server == "2 replicas" else 1
    ours = {"server": server, "round": number, "concurrency": concurrency, "replicas": replicas}
    return {**ours, **times, "errors": 0, "rps": rps}


# In the second round the machine was slow for all.
ROWS = [
    row(ONE.name, 0, 16, 20.0),
    row(ONE.name, 1, 16, 10.0),
    row("2 replicas", 0, 16, 25.0),
    row("2 replicas", 1, 16, 12.0),
    row("2 replicas", 0, 32, 39.0),
    row("2 replicas", 1, 32, 19.0),
]


def test_each_shape_is_an_endpoint_that_the_api_takes() -> None:
    parsed = [parse_endpoint(shape.of(MANIFEST)).spec for shape in shapes(4)]
    assert [spec.replicas for spec in parsed] == [1, 4, 1]
    assert [spec.parallelism.tensor for spec in parsed] == [1, 1, 4]
    assert MANIFEST["spec"]["accelerator"]["count"] == 1, "shapes are copies"


def test_replicas_also_get_the_same_load_each() -> None:
    assert [shape.loads([1, 16]) for shape in shapes(2)] == [[1, 16], [1, 2, 16, 32], [1, 16]]


def test_ratios_are_taken_within_a_round() -> None:
    assert ratio(ROWS, ROWS[2:4], 16) == "**1.225** (1.200 to 1.250)", "the medians alone, 15 and 18.5, would say 1.233"
    assert ratio(ROWS, ROWS[:2], 16) == "", "the one replica is what the others are compared with"


def test_the_table_compares_at_the_same_load_in_all_and_for_each() -> None:
    assert table(ROWS).splitlines()[2:] == [
        "| one replica | 16 | 15.00 | 10.0 / 20.0 | 1.0 | 0 |  |  |",
        "| 2 replicas | 16 | 18.50 | 10.0 / 20.0 | 1.0 | 0 | **1.225** (1.200 to 1.250) |  |",
        "| 2 replicas | 32 | 29.00 | 10.0 / 20.0 | 1.0 | 0 |  | **1.925** (1.900 to 1.950) |",
    ]


def test_the_documents_show_a_command_that_works() -> None:
    (shown,) = re.findall(r"python bench/scaling\.py(.*)", PERFORMANCE)
    found = options_of(shlex.split(shown))
    assert (found.accelerators, found.rounds, found.requests, found.least) == (2, 1, 4, 24)
    assert (found.concurrency, found.words, found.tokens) == ([1, 16, 64, 256], 200, 64)
    assert found.endpoint.is_file()


def test_every_round_starts_every_shape_and_turns_the_order(monkeypatch: Any, tmp_path: Path) -> None:
    started: list[str] = []

    def measured(_: object, shape: scaling.Shape, __: object, number: int) -> list[dict[str, Any]]:
        started.append(shape.name)
        return [{"round": number}]

    monkeypatch.setattr(scaling, "ours", lambda *_: Path.open(tmp_path / "log", "w"))
    monkeypatch.setattr(scaling, "measure_all", measured)
    rows = list(scaling.run(MANIFEST, Namespace(rounds=2, accelerators=2, engine_python=tmp_path), tmp_path))
    assert started == [*(one.name for one in shapes(2)), *(one.name for one in reversed(shapes(2)))]
    assert [one["replicas"] for one in rows] == [1, 2, 1, 1, 2, 1]
