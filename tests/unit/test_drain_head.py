"""The head's preStop hook: it stays while a worker drains, and no longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from sglang_serve import drain, drain_head
from sglang_serve.drain_head import ASK_SECONDS, Workers, needs_head

NONE = Workers((), ())
SERVING = Workers(("a", "b"), ())
DRAINING = Workers(("a", "b"), ("b",))


@pytest.fixture(autouse=True)
def _no_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain, "front_connections", lambda: 0)


@pytest.mark.parametrize(
    ("workers", "waited", "needed"),
    [
        (NONE, 0, False),
        (NONE, ASK_SECONDS + 1, False),
        (SERVING, 0, True),  # all pods are deleted at once, and a worker takes its time to say so
        (SERVING, ASK_SECONDS + 1, False),  # the head alone is deleted
        (DRAINING, 0, True),
        (DRAINING, ASK_SECONDS + 1, True),
    ],
)
def test_the_head_is_needed_while_a_worker_drains(workers: Workers, waited: float, needed: bool) -> None:
    assert needs_head(workers, waited) is needed


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(drain, "PROC", tmp_path)
    monkeypatch.setattr(drain, "POLL_SECONDS", 0.01)
    return tmp_path


def test_it_waits_until_the_last_worker_is_gone(proc: Path) -> None:
    seen = [SERVING, DRAINING, DRAINING, NONE]
    assert drain_head.wait(lambda: seen.pop(0), 60) == 0
    assert seen == []


def test_it_waits_for_answers_that_go_through_it(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connections = [2, 1, 0]
    monkeypatch.setattr(drain, "front_connections", lambda: connections.pop(0))
    monkeypatch.setattr(drain_head, "ASK_SECONDS", -1)
    assert drain_head.wait(lambda: SERVING, 60) == 0
    assert connections == []


def test_what_it_holds_keeps_it_from_nothing(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would start a replica any more, and no other head comes before it has gone."""
    monkeypatch.setattr(drain, "front_connections", lambda: 1)
    assert drain_head.wait(lambda: NONE, 60) == 0


def test_it_waits_no_longer_than_it_may(proc: Path) -> None:
    assert drain_head.wait(lambda: DRAINING, 0.05) == 1


def test_a_control_store_that_misses_a_question_is_asked_again() -> None:
    """Its workers still drain: without it their streams break within a minute."""
    answers: list[Workers | Exception] = [DRAINING, TimeoutError(), TimeoutError(), NONE]
    now = iter(range(0, 400, 40))  # of one who waits longer than it may be silent, but not on end

    def look() -> Workers:
        if isinstance(answer := answers.pop(0), Exception):
            raise answer
        return answer

    asked = drain_head.patient(look, lambda: float(next(now)))
    assert [asked(), asked()] == [DRAINING, DRAINING]
    assert asked() is None, "silent for longer than SILENT_SECONDS"
    assert asked() == NONE


def test_without_ray_there_is_nothing_to_wait_for(proc: Path) -> None:
    assert drain_head.main(["--seconds", "60"]) == 0


def test_without_control_store_there_is_nothing_to_wait_for(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (proc / "1").mkdir()
    (proc / "1" / "cmdline").write_bytes(b"/opt/raylet\0--node_id=abc\0--gcs-address=10.0.0.1:6379\0")

    def gone() -> Workers:
        raise ConnectionError("gone")

    monkeypatch.setattr(drain_head, "ray_workers", lambda _: gone)
    monkeypatch.setattr(drain_head, "SILENT_SECONDS", 0.05)
    assert drain_head.main(["--seconds", "60"]) == 0
