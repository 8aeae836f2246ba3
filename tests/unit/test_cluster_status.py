"""What status tells of the revision that the spec asks for while another one serves."""

from __future__ import annotations

from typing import Any

from unit.api_objects import endpoint
from unit.test_cluster_records import stored

from sglang_operator.api import parse_endpoint
from sglang_operator.cluster.observe import Sight, View
from sglang_operator.cluster.records import note_failure
from sglang_operator.cluster.status import Facts, status_of
from sglang_operator.lifecycle.observed import Failure, Live, Observed, Presence, Revision, Selection

NOW = 10_000.0
LATER: dict[str, Any] = {"restartToken": "x"}
FAILED = Failure("BadArgument", "unknown argument", NOW - 100)


def status(failure: Failure | None = None) -> dict[str, Any]:
    """The first revision serves, and the second one is there."""
    records = stored(1), stored(2, note_failure(failure), **LATER)
    found = [Revision(one.name, one.record, Live(presence=Presence.PRESENT)) for one in records]
    observed = Observed(tuple(found), Selection(records[0].name))
    view = View(observed, {one.name: Sight(one) for one in found})
    return status_of(Facts(parse_endpoint(endpoint(**LATER)), view, records, records[1].name, {}, NOW))


def test_a_revision_that_is_there_and_does_not_serve_is_on_its_way() -> None:
    updating = status()["updating"]
    assert (updating["step"], updating["changed"]) == ("Pending", ["restartToken"])


def test_a_failed_one_that_is_kept_for_reading_is_not() -> None:
    found = status(FAILED)
    assert "updating" not in found
    assert [one["state"] for one in found["revisions"]] == ["Failed", "Serving"]
