"""Which steps of a start are progress, by the end of its log that an operator reads."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import get_args

import pytest

from sglang_operator.api.status import UpdatingRevision
from sglang_operator.cluster.logs import TAIL_LINES, parse_log
from sglang_operator.cluster.tries import latest_gain
from sglang_serve import progress
from sglang_serve.progress import Bytes, following

GIB = 2**30
TOTAL = Bytes(700 * GIB)
BEGIN = ("model", f"downloading hf://a/b: {TOTAL}")
FAIL = ("failed", "the hub answered 503")
WAIT = ("backoff", "trying again in 5 s; 1 starts have failed in a row")
Said = tuple[str, str]


def test_status_says_which_steps_there_are() -> None:
    described = str(UpdatingRevision.model_fields["step"].description)
    assert [step for step in get_args(progress.Step) if f" {step}" not in described] == []


def arriving(first: int, last: int) -> list[Said]:
    """One line for each GiB."""
    return [("model", f"downloading hf://a/b: {Bytes(n * GIB)} of {TOTAL}") for n in range(first, last)]


def progress_at(said: Sequence[Said], every: int = 1) -> int:
    """Number of the line that is the latest progress, by the tail of the log after the last of them."""
    reasons = {"reason": "DownloadFailed", "remedy": "r"}
    lines = [
        {"time": datetime.fromtimestamp(1000 + number * every, UTC).isoformat(), "step": step, "message": message}
        for number, (step, message) in enumerate(said)
    ]
    text = [json.dumps({**one, "event": "progress", **(reasons if one["step"] == "failed" else {})}) for one in lines]
    return round((parse_log("\n".join(text[-TAIL_LINES:])).at - 1000) / every)


def test_of_a_first_try_all_is_progress_and_its_end() -> None:
    first = [BEGIN, *arriving(0, 5)]
    assert progress_at(first) == len(first) - 1
    assert progress_at([*first, FAIL]) == len(first)
    assert progress_at([*first, FAIL, WAIT]) == len(first)


def test_a_download_that_broke_once_and_goes_on_is_progress_at_once() -> None:
    before = [BEGIN, *arriving(0, 300), FAIL, WAIT, BEGIN]
    assert progress_at([*before, *arriving(299, 301)]) == len(before) + 1
    assert progress_at([*before, *arriving(299, 400)]) == len(before) + 100


def test_a_download_that_begins_anew_is_progress_from_where_the_earlier_one_was() -> None:
    before = [BEGIN, *arriving(0, 100), FAIL, WAIT, BEGIN]
    assert progress_at([*before, *arriving(0, 100)]) == 101, "as far as before: that is its end"
    assert progress_at([*before, *arriving(0, 120)]) == len(before) + 119


def test_a_further_try_has_all_before_it_to_come_beyond() -> None:
    before = [BEGIN, *arriving(0, 100), FAIL, BEGIN, *arriving(0, 10), FAIL, BEGIN]
    assert progress_at([*before, *arriving(0, 100)]) == 101
    assert progress_at([*before, *arriving(0, 102)]) == len(before) + 101


def test_how_far_a_try_came_of_which_only_its_end_is_left_nobody_knows() -> None:
    cut = [FAIL, WAIT, BEGIN, *arriving(0, 397)]
    assert progress_at([*arriving(0, 500), *cut]) == 500


def test_what_comes_after_the_download_is_progress_once() -> None:
    first = [BEGIN, *arriving(0, 9), FAIL]
    loads = [BEGIN, ("model", "looking"), ("load", "starting"), ("warmup", "answering")]
    assert progress_at([*first, *loads]) == len(first) + len(loads) - 1
    assert progress_at([*first, *loads, FAIL, *loads]) == len(first) + len(loads) - 1


@pytest.mark.parametrize("reach", [3, 90, 390])
def test_a_start_that_fails_for_ever_at_one_place_has_no_progress_after_a_failure_that_shows(reach: int) -> None:
    one = [BEGIN, *arriving(0, reach), FAIL, WAIT]
    forever = [*one, *one, *one]
    for end in range(len(one), len(forever), 7):
        shown = range(max(0, end - TAIL_LINES), end)
        if failures := [number for number in shown if forever[number] == FAIL]:
            assert progress_at(forever[:end]) == failures[0]


def test_bytes_that_another_replica_fetches_count() -> None:
    theirs = [("model", f"another replica downloads the model to this volume: {Bytes(n * GIB)}") for n in range(9)]
    before = [*theirs[:4], FAIL, WAIT]
    assert progress_at([*before, *theirs[:4]]) == 4
    assert progress_at([*before, *theirs[:6]]) == len(before) + 5


def test_what_the_engine_reads_counts() -> None:
    """A large model on a slow volume loads for longer than the deadline, and does come further."""
    loads = [("load", "starting the engine with /m"), *(("load", f"loading: {Bytes(n * GIB)} read") for n in (1, 2, 3))]
    assert progress_at([BEGIN, *loads]) == 4
    assert progress_at([BEGIN, *loads[:3], FAIL, WAIT, BEGIN, *loads[:3]]) == 4
    assert progress_at([BEGIN, *loads[:3], FAIL, WAIT, BEGIN, *loads]) == 10


def test_since_it_was_ready_a_try_is_the_first_again() -> None:
    served = [BEGIN, *arriving(0, 9), FAIL, ("ready", "answering requests")]
    assert progress_at(served) == len(served) - 1
    assert progress_at([*served, BEGIN, *arriving(0, 2)]) == len(served) + 2
    again = [*served, BEGIN, *arriving(0, 5), FAIL, BEGIN]
    assert progress_at([*again, *arriving(0, 5)]) == again.index(FAIL, len(served))
    assert progress_at([*again, *arriving(0, 7)]) == len(again) + 6


def test_without_steps_there_is_none() -> None:
    assert latest_gain([]) == {}


def test_lines_are_understood_as_images_write_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "DOWNLOAD_SECONDS", 0.001)
    said: list[str] = []
    grows: Iterator[int] = itertools.count(5 * GIB, GIB)
    with following("hf://a/b", TOTAL, lambda: next(grows), said.append):
        while len(said) < 3:
            time.sleep(0.001)
    before = [BEGIN, *arriving(0, 6), FAIL]
    assert progress_at([*before, ("model", said[0])]) == len(before) - 1, "the whole of it is still to come"
    assert progress_at([*before, ("model", said[1])]) == len(before) - 1
    assert progress_at([*before, ("model", said[2])]) == len(before)
