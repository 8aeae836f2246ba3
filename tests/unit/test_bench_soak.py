"""What bench/hitless.py keeps of a soak, and the table that docs/reliability.md has of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import soak
from cluster.load import Count, Lost
from soak import Part, read_parts, renew, summary, table, write_parts

ROOT = Path(__file__).parents[2]
UPGRADE, KILL = "an upgrade", "an upgrade under fire"
PARTS = [
    Part(UPGRADE, 10, Count(900, 48.0, 5), {"environment": 7, "image": 3}, "2026-11-29", "SGLang 1"),
    Part(UPGRADE, 5, Count(100, 61.5, 5), {"environment": 1, "argument": 4}, "2026-11-29", "SGLang 1"),
    Part(UPGRADE, 1, Count(500, 20.0, 5, [Lost(1.0, "kept-0", "408")]), {"image": 1}, "2026-11-30", "SGLang 2"),
    Part(KILL, 2, Count(299, 30.0, 5), {"argument": 2}, "2026-11-30", "SGLang 2"),
]


def test_the_table_has_a_row_for_each_day_and_one_for_all() -> None:
    assert table(PARTS).splitlines()[2:] == [
        "| 2026-11-29 | an upgrade | 15 | environment 8, image 3, argument 4 | 1000 | 5 | 62 s | **0** | 0.3 % |",
        "| 2026-11-30 | an upgrade | 1 | image 1 | 500 | 5 | 20 s | 1 | |",
        "| 2026-11-30 | an upgrade under fire | 2 | argument 2 | 299 | 5 | 30 s | **0** | 1 % |",
        "| in all | an upgrade | 16 | environment 8, image 4, argument 4 | 1500 | 5 | 62 s | 1 | |",
        "| in all | an upgrade under fire | 2 | argument 2 | 299 | 5 | 30 s | **0** | 1 % |",
        "",
        "With SGLang 1; SGLang 2.",
    ]


def test_a_run_goes_on_with_the_counts_of_the_one_before(tmp_path: Path) -> None:
    file = tmp_path / "soak.json"
    assert read_parts(file) == read_parts(None) == []
    write_parts(file, PARTS)
    assert read_parts(file) == PARTS
    assert next(summary(read_parts(file))) == (
        "in all, an upgrade: 16 events, 1 of 1500 requests lost (0.07 %), 5 clients, longest stream 62 s"
    )


def test_only_the_table_of_the_page_is_renewed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"above\n{soak.BEGIN}\nold\n{soak.END}\nbelow\n")
    renew(page, PARTS)
    renew(page, PARTS)
    assert page.read_text() == f"above\n{soak.BEGIN}\n\n{table(PARTS)}\n\n{soak.END}\nbelow\n"


def test_a_page_without_a_place_for_it_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("text\n")
    with pytest.raises(ValueError, match="has no lines"):
        renew(page, PARTS)


def test_the_documented_table_is_that_of_the_counts() -> None:
    parts = read_parts(ROOT / "docs" / "soak.json")
    assert parts
    assert table(parts) in (ROOT / "docs" / "reliability.md").read_text()
