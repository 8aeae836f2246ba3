"""docs/reliability.md: what it says in short is the sum of the runs that it lists, and bounds follow from counts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "reliability.md").read_text()
Row = list[str]


def rows(heading: str) -> list[Row]:
    """Those of the table below this heading, without its head."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    found = [[cell.strip() for cell in line[1:-1].split("|")] for line in section.splitlines() if line.startswith("|")]
    return found[2:]


SHORT, EVERY = rows("In short"), rows("Every run")


def number(cell: str) -> int:
    """The first one of a cell; 0 where there is none."""
    return int((re.findall(r"\d+", cell) or ["0"])[0])


def of(event: str) -> list[Row]:
    return [row for row in EVERY if row[0] == event]


def test_both_tables_have_the_same_events() -> None:
    assert sorted(row[0] for row in SHORT) == sorted({row[0] for row in EVERY})


@pytest.mark.parametrize("short", [pytest.param(row, id=row[0]) for row in SHORT])
def test_it_says_in_short_what_the_runs_come_to(short: Row) -> None:
    _, runs, requests, clients, longest, lost, _ = short
    found = of(short[0])
    assert number(runs) == sum(2 if "in two runs" in row[3] else 1 for row in found)
    assert number(requests) == sum(number(row[3]) for row in found)
    at_work = {number(row[4]) for row in found}
    assert {number(clients), int(clients.split()[-1])} == {min(at_work), max(at_work)}
    assert number(longest) == max(number(row[5]) for row in found if "tokens" not in row[5])
    assert number(lost) == sum(number(row[6]) for row in found)


@pytest.mark.parametrize("row", [*SHORT, *EVERY])
def test_a_bound_follows_from_the_requests(row: Row) -> None:
    requests, bound = (row[2], row[6]) if row in SHORT else (row[3], row[7])
    if said := re.fullmatch(r"([\d.]+) %", bound):
        assert float(said[1]) == pytest.approx(100 * (1 - 0.05 ** (1 / number(requests))), rel=0.02, abs=0.005)
