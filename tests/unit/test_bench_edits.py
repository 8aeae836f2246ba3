"""What bench/hitless.py edits in its upgrades."""

from __future__ import annotations

from pathlib import Path

import pytest
from cluster.endpoints import engine_of
from cluster.load import Count
from edits import KINDS, engine_after, kind, tally
from soak import Part, read_parts, write_parts

IMAGES = ("image:1", "image:1-again")
FIELD = {"environment": "env", "argument": "args", "image": "image"}


def test_an_endpoint_starts_with_nothing_edited() -> None:
    assert engine_after(-1, IMAGES) == engine_of(
        {"env": [{"name": "COLOR", "value": "0"}], "args": {"random_seed": 0}, "image": "image:1"}
    )


@pytest.mark.parametrize("number", range(7))
def test_each_upgrade_edits_what_it_says_and_nothing_else(number: int) -> None:
    before, after = engine_after(number - 1, IMAGES), engine_after(number, IMAGES)
    assert [name for name in after if before[name] != after[name]] == [FIELD[kind(number)]]


def test_no_upgrade_leads_back_to_what_a_round_before_it_served() -> None:
    """The operator would find the record of it, and might move back instead of starting another."""
    engines = [engine_after(number, IMAGES) for number in range(-1, 3 * len(KINDS))]
    assert all(engine not in engines[:place] for place, engine in enumerate(engines))


def test_a_part_that_begins_where_another_has_ended_goes_on_in_turn() -> None:
    assert tally(range(10)) == {"environment": 4, "argument": 3, "image": 3}
    assert tally(range(10, 12)) == {"argument": 1, "image": 1}


def test_it_is_kept_with_the_counts(tmp_path: Path) -> None:
    parts = [Part("an upgrade", 4, Count(), tally(range(4)))]
    write_parts(tmp_path / "soak.json", parts)
    assert read_parts(tmp_path / "soak.json") == parts
