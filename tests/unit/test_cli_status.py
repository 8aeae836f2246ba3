"""`kubectl sglang status`: what a status comes to, and when waiting for it ends."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner
from unit.reported import COMPLETE, DONE, SERVING, SILENT, STOPPED, endpoint

from sglang_operator.cli.kubectl import KubectlError
from sglang_operator.cli.main import group
from sglang_operator.cli.situation import Outcome, Situation, lines, situation_of
from sglang_operator.cli.status import follow
from sglang_operator.cli.view import View

FAILED = {"name": "e-2", "number": 2, "state": "Failed", "reason": "OutOfMemory", "message": "9 GiB lack"}


@pytest.mark.parametrize(
    ("conditions", "outcome", "reason"),
    [
        ([SERVING, COMPLETE], Outcome.ARRIVED, "Serving"),
        ([SERVING, ("Progressing", "True", "Draining")], Outcome.ARRIVED, "Serving"),
        (
            [("Ready", "True", "ScaledToZero"), COMPLETE],
            Outcome.ARRIVED,
            "ScaledToZero",
        ),
        ([STOPPED, COMPLETE], Outcome.ARRIVED, "Stopped"),
        ([SERVING, ("Progressing", "True", "OnTrial")], Outcome.WAITING, "OnTrial"),
        ([SERVING, ("Progressing", "True", "WaitingForCapacity")], Outcome.WAITING, "WaitingForCapacity"),
        ([SERVING, ("Progressing", "Unknown", "Paused")], Outcome.WAITING, "Paused"),
        ([STOPPED, ("Progressing", "Unknown", "Paused")], Outcome.WAITING, "Paused"),
        (
            [SILENT, ("Progressing", "False", "KubeRayAbsent")],
            Outcome.WAITING,
            "KubeRayAbsent",
        ),
        ([SERVING, ("Progressing", "False", "RefusedByCluster")], Outcome.WAITING, "RefusedByCluster"),
        ([SERVING, ("Progressing", "False", "InvalidObject")], Outcome.FAILED, "InvalidObject"),
        ([SERVING, ("Progressing", "False", "RolledBack")], Outcome.FAILED, "RolledBack"),
        ([SILENT, ("Progressing", "True", "RollingBack")], Outcome.FAILED, "RollingBack"),
        (
            [SILENT, ("Degraded", "True", "RevisionFailing")],
            Outcome.FAILED,
            "RevisionFailing",
        ),
    ],
)
def test_what_conditions_come_to(conditions: list[tuple[str, str, str]], outcome: Outcome, reason: str) -> None:
    assert situation_of(endpoint(*conditions)) == Situation(outcome, reason, reason.lower())


def test_an_invalid_spec_has_failed_although_the_revision_before_it_serves() -> None:
    invalid = endpoint(SERVING, COMPLETE)
    invalid["status"]["conditions"][0] |= {"status": "False", "reason": "InvalidSpec", "message": "spec.x: no"}
    assert situation_of(invalid) == Situation(Outcome.FAILED, "InvalidSpec", "spec.x: no")


def test_what_the_operator_has_not_seen_is_not_judged_by_the_status_before() -> None:
    seen = endpoint(SERVING, COMPLETE, generation=3)
    assert situation_of(seen).outcome is Outcome.WAITING
    assert "is it running" in situation_of(seen).message
    never = {"metadata": {"name": "e", "namespace": "n", "generation": 1}}
    assert situation_of(never) == situation_of(seen)
    assert list(lines(never)) == [f"n/e: NotSeen: {situation_of(seen).message}"]


def test_a_start_is_told_by_the_log_of_the_replica() -> None:
    updating = {"revision": "e-2", "step": "model", "progress": "3 of 15 GiB"}
    starting = endpoint(SILENT, ("Progressing", "True", "StartingRevision"), updating=updating)
    assert situation_of(starting).message == "e-2: model: 3 of 15 GiB"


def test_everything_is_shown() -> None:
    told = "\n".join(
        lines(
            endpoint(
                SERVING,
                ("Progressing", "False", "RolledBack"),
                url="http://e.n.svc",
                desiredReplicas=2,
                readyReplicas=1,
                accelerators={"allocated": 16, "rollout": 8},
                serving={"revision": "e-1", "model": "hf://a/b", "image": "i:1", "modelCommit": "c0ffee"},
                updating={"revision": "e-3", "step": "Pending", "progress": "", "changed": ["engine.args"]},
                adapters=[{"name": "sql", "state": "Failed", "replicas": "1/2", "message": "no such file"}],
                revisions=[{**FAILED, "log": [f"line {n}" for n in range(9)]}, {"name": "e-1", "state": "Serving"}],
            )
        )
    )
    assert (
        told
        == """\
n/e: RolledBack: rolledback
  Accepted      True    Valid: valid
  Ready         True    Serving: serving
  Progressing   False   RolledBack: rolledback
  url           http://e.n.svc/v1
  replicas      1 of 2 answer
  accelerators  16 held, 8 of them by what does not serve
  serving       e-1: hf://a/b @ c0ffee, i:1
  updating      e-3: Pending (changed: engine.args)
  adapter sql   Failed 1/2 no such file
  revision 2  e-2  Failed: OutOfMemory: 9 GiB lack
    | line 4
    | line 5
    | line 6
    | line 7
    | line 8
  revision ?  e-1  Serving"""
    )


class Clock:
    """Time goes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def followed(
    looks: Iterator[dict[str, Any] | KubectlError], seconds: float = 60, each: float = 0
) -> tuple[dict[str, Any], str]:
    """What was seen last, and what was shown; each look takes `each` seconds, and no more than it is given."""
    out, clock = io.StringIO(), Clock()

    def look(left: float) -> dict[str, Any]:
        clock.sleep(min(each, left))
        found = next(looks)
        if isinstance(found, KubectlError):
            raise found
        return found

    return dict(follow(look, View(out), seconds, clock, clock.sleep)), out.getvalue()


WAITS = endpoint(SILENT, ("Progressing", "True", "StartingRevision"))
AWAY = KubectlError("connection refused", "wait", is_final=False)


def test_waiting_shows_each_step_once_and_outlives_an_api_server_that_is_away() -> None:
    last, shown = followed(iter([WAITS, WAITS, AWAY, AWAY, WAITS, DONE]))
    assert last == DONE
    assert shown.splitlines() == [
        "StartingRevision startingrevision",
        "error: connection refused",
        "  remedy: wait",
        "StartingRevision startingrevision",
        "Serving  serving",
    ]


def test_waiting_ends_with_its_time_and_with_what_is_final() -> None:
    last, shown = followed(iter([WAITS] * 100), seconds=11)
    assert last == WAITS
    assert shown.endswith("not in time: the 11 s of --timeout are over\n")
    with pytest.raises(KubectlError, match="no such endpoint"):
        followed(iter([KubectlError("no such endpoint", "look", is_final=True)]))


def test_a_server_that_is_away_at_the_end_was_not_asked() -> None:
    with pytest.raises(KubectlError, match="connection refused"):
        followed(iter([WAITS, *[AWAY] * 100]), seconds=10)
    with pytest.raises(KubectlError, match="connection refused"):
        followed(iter([AWAY]), seconds=10, each=30)


def test_a_look_that_the_end_of_the_time_cuts_says_nothing_of_the_server() -> None:
    assert followed(iter([WAITS, AWAY]), seconds=10, each=7)[0] == WAITS


@pytest.mark.parametrize("text", ["5x", "-1", "", "1h30m"])
def test_a_time_is_written_as_for_kubectl(text: str) -> None:
    done = CliRunner().invoke(group, ["status", "e", "--wait", "--timeout", text])
    assert done.exit_code == 2
    assert "is not like 90s, 30m or 1h" in done.stderr
