"""An upgrade under load by an operator whose way to the API server is bad, or that dies after each of its writes."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster.actors import Operator, User, load, wait_until
from cluster.between import Between, between
from cluster.endpoints import colored

SHARE = 0.15  # of requests that go wrong
MOST_KILLS = 200
pytestmark = [pytest.mark.timeout(1800), pytest.mark.long]


@pytest.fixture
def way(serving: User, operator: Operator, tmp_path: Path) -> Iterator[Between]:
    """The operator's way to the API server, once it serves; afterwards it has its own again."""
    del serving  # it does
    direct = operator.kubeconfig
    with between(direct, tmp_path) as made:
        operator.end()
        operator.kubeconfig = made.kubeconfig
        operator.start()
        wait_until(operator.passes, 120, "the operator to work through the server between")
        yield made
        made.tell(None)
        operator.end(signal.SIGKILL)
        operator.kubeconfig = direct
        operator.start()


def test_requests_that_fail_and_watches_that_break_lose_nothing(serving: User, way: Between) -> None:
    before = serving.serving
    serving.slow_down()
    with load(serving.url()) as working:
        with working.event():
            way.share, way.cuts_watches = SHARE, True
            serving.edit("engine", colored("green"))
            serving.wait_for_switch(before)
        serving.wait_for_rollout(before)
    print(f"{way.wrong} requests or watches went wrong")
    assert way.wrong > 0
    assert working.count.lost == [], str(working.count)


def test_an_operator_killed_after_each_write_of_an_upgrade_finishes_it(
    serving: User, operator: Operator, way: Between
) -> None:
    """The write is carried out, and nobody hears of it: the next process goes on from what it finds."""
    before, killed_after = serving.serving, list[str]()

    def kill(write: str) -> None:
        killed_after.append(write)
        operator.end(signal.SIGKILL)
        operator.start()

    serving.slow_down()
    with load(serving.url()) as working:
        with working.event():
            way.tell(kill)
            serving.edit("engine", colored("blue"))
            serving.wait_for_switch(before)
        serving.wait_for_rollout(before)
    print(f"killed after {len(killed_after)} writes:", *killed_after, sep="\n  ")
    expected = {"the new revision": r"(PATCH|POST) .*/rayservices", "the switch": rf"PATCH .*/services/{serving.name}$"}
    for what, pattern in {**expected, "the last one's end": rf"DELETE .*/rayservices/{before}"}.items():
        assert any(re.match(pattern, write) for write in killed_after), what
    assert len(killed_after) < MOST_KILLS
    assert working.count.lost == [], str(working.count)
