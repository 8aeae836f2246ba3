"""The pause between two tries of a replica to start."""

from __future__ import annotations

from pathlib import Path

import pytest
from unit import full_disk

from sglang_serve import backoff


def pause(state: Path, drawn: float = 0.0) -> float:
    return backoff.seconds_before_start(state, lambda: drawn)


def test_it_grows_up_to_five_minutes_and_ends_with_a_success(tmp_path: Path) -> None:
    found = []
    for _ in range(9):
        found.append(pause(tmp_path))
        backoff.note_failure(tmp_path)
    assert found == [0, 5, 10, 20, 40, 80, 160, 300, 300]
    backoff.note_success(tmp_path)
    backoff.note_success(tmp_path)
    assert pause(tmp_path) == 0


def test_replicas_of_one_fate_do_not_come_at_once(tmp_path: Path) -> None:
    backoff.note_failure(tmp_path)
    assert pause(tmp_path, 1.0) == 4
    assert 4 <= backoff.seconds_before_start(tmp_path) <= 5


def test_a_spoilt_count_is_none(tmp_path: Path) -> None:
    (tmp_path / backoff.FILE).write_text("x")
    assert pause(tmp_path) == 0


def test_where_a_failure_cannot_be_noted_the_pause_is_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paused: list[float] = []
    backoff.note_failure(tmp_path, paused.append)
    assert paused == []
    full_disk.fill(monkeypatch)
    backoff.note_failure(tmp_path, paused.append)
    assert paused == [backoff.FIRST_SECONDS]
    assert backoff.failed_starts(tmp_path) == 1
