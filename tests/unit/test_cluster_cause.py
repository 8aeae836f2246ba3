"""Whether an endpoint serves, and if not why: the word that `kubectl get` shows, and the message of condition Ready."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sglang_operator.api.errors import FieldError, InvalidEndpoint
from sglang_operator.cluster import findings
from sglang_operator.cluster.api import ApiError
from sglang_operator.cluster.cause import explained
from sglang_operator.cluster.status import conditions
from sglang_operator.lifecycle import decide
from sglang_operator.lifecycle.observed import (
    NOTHING,
    Failure,
    Live,
    Observed,
    Presence,
    Probe,
    Record,
    Revision,
    Selection,
    Unschedulable,
)
from sglang_operator.lifecycle.reasons import Condition, ConditionType, Reason
from sglang_operator.lifecycle.wanted import Bounds, Wanted

NOW = 5000.0
NO_IMAGE = Failure("ImagePullFailed", "no such image: correct spec.engine.image", NOW)
LOADS = Live(Presence.PRESENT, "uid-a", clusters=1, pods=2, worker_pods=1, front_pods=1, progress=NOW)
SERVES = replace(LOADS, ready_replicas=1, target_replicas=1, probe=Probe.ANSWERED, answered=1)
FORBIDDEN = findings.blocked(ApiError(403, "Forbidden", "cannot list resource pods"))
INVALID = findings.rejected(InvalidEndpoint((FieldError("spec.task", "x", "is no task", "say generate"),)))


def decided(live: Live, service: Selection = NOTHING, *, paused: bool = False) -> list[Condition]:
    observed = Observed((Revision("a", Record(1), live),), service, paused=paused)
    return [findings.accepted(frozenset(), wants_route=False), *decide(Wanted("a"), observed, NOW).conditions]


def ready(found: list[Condition]) -> Condition:
    return next(one for one in found if one.type is ConditionType.READY)


@pytest.mark.parametrize(
    ("live", "word", "told"),
    [
        (replace(LOADS, failure=NO_IMAGE), "ImagePullFailed", NO_IMAGE.message),
        (replace(LOADS, unschedulable=Unschedulable(0.0, "0/2 nodes")), "NoCapacity", "0/2 nodes; free or add nodes"),
        (replace(LOADS, unschedulable=Unschedulable(NOW, "0/2 nodes")), "WaitingForCapacity", "0/2 nodes"),
        (replace(LOADS, complaint='secret "hf" not found'), "PodsBlocked", 'secret "hf" not found'),
        (replace(SERVES, answered=0, probe=Probe.UNREACHABLE), "ProbeUnreachable", "allow it in the NetworkPolicy"),
        (replace(LOADS, progress=0.0), "ProgressDeadlineExceeded", "a makes no progress"),
        (LOADS, "StartingRevision", "a: 0 of 1 replicas answer"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isalpha() else "",
)
def test_what_has_never_served_says_why(live: Live, word: str, told: str) -> None:
    said, found = explained(decided(live), ())
    assert said == word
    assert ready(found).reason is Reason.NOT_SERVING, "what the reasons of Ready mean stays"
    assert ready(found).message.startswith("no revision has served yet; ")
    assert told in ready(found).message


def test_what_has_served_says_why_it_does_not_now() -> None:
    assert explained(decided(LOADS, Selection("a")), ())[0] == "Recovering"
    word, found = explained(decided(replace(LOADS, failure=NO_IMAGE), Selection("a")), ())
    assert (word, NO_IMAGE.message in ready(found).message) == ("ImagePullFailed", True)
    assert explained(decided(replace(LOADS, head_lost=True), Selection("a")), ())[0] == "HeadLost"


def test_what_is_paused_says_so_unless_it_serves() -> None:
    word, found = explained(decided(LOADS, paused=True), ())
    assert (word, "spec.paused is true" in ready(found).message) == ("Paused", True)
    assert explained(decided(SERVES, Selection("a"), paused=True), ())[0] == "Serving"


def test_what_the_cluster_refuses_is_a_cause_as_well() -> None:
    for trouble, word in ((findings.kuberay_absent(), "KubeRayAbsent"), (FORBIDDEN, "Forbidden")):
        found = [trouble if one.type is ConditionType.PROGRESSING else one for one in decided(LOADS)]
        said, told = explained(found, ())
        assert (said, trouble.message in ready(told).message) == (word, True)


def test_what_serves_is_said_as_it_was_found() -> None:
    found = decided(SERVES, Selection("a"))
    assert explained(found, ()) == ("Serving", found)
    wrong = [INVALID, *found[1:]]
    assert explained(wrong, ()) == ("Serving", wrong)


def test_who_stopped_it_knows_why() -> None:
    off = replace(LOADS, pods=0, worker_pods=0, front_pods=0, target_replicas=0, progress=None)
    observed = Observed((Revision("a", Record(1), off),), Selection("a"))
    found = list(decide(Wanted("a", replicas=Bounds(0, 0)), observed, NOW).conditions)
    assert explained(found, ()) == ("Stopped", found)
    assert explained([INVALID, *found], ())[0] == "InvalidSpec", "it may be the edit that should start it"


@pytest.mark.parametrize("found", [INVALID, FORBIDDEN], ids=["invalid", "forbidden"])
def test_what_a_pass_does_not_know_is_as_status_has_it(found: Condition) -> None:
    served = conditions(NOW, 1, decided(SERVES, Selection("a")), ())
    assert explained([found], served) == ("Serving", [found])
    for known in ((), conditions(NOW, 1, explained(decided(replace(LOADS, failure=NO_IMAGE)), ())[1], ())):
        word, told = explained([found], known)
        assert word == found.reason.value
        assert ready(told).message == f"no revision is known to serve; {found.message}", "no cause of before"


def test_conditions_keep_their_order() -> None:
    """Or a status would differ from itself."""
    found = decided(LOADS)
    assert [one.type for one in explained(found, ())[1]] == [one.type for one in found]
