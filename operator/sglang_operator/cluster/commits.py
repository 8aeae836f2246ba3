"""The commit that a branch of the hub is for a revision: the first one that its replicas report. Pure.

Why: docs/adr/0018-one-commit-for-a-revision.md.
"""

from __future__ import annotations

from collections.abc import Mapping

from sglang_operator.cluster.in_place import takes_commit
from sglang_operator.cluster.metadata import is_terminating
from sglang_operator.cluster.observe import Sight, View
from sglang_operator.cluster.records import StoredRevision
from sglang_operator.cluster.snapshot import Snapshot
from sglang_serve.args import COMMIT


def found_commits(snapshot: Snapshot, view: View) -> Mapping[str, str]:
    """By name of the revision: what its record does not have yet."""
    unknown = (stored for stored in snapshot.records if not stored.commit and takes_commit(stored.ray_service))
    found = {stored.name: _said(view.sights.get(stored.name)) for stored in unknown if _is_made(snapshot, stored)}
    return {name: commit for name, commit in found.items() if commit}


def _is_made(snapshot: Snapshot, stored: StoredRevision) -> bool:
    """Until its RayService is there, pods of its name are those of an endpoint that was deleted."""
    live = snapshot.ray_service(stored.name)
    return live is not None and not is_terminating(live)


def _said(sight: Sight | None) -> str:
    """What all that answer agree on: of two Ray clusters of one revision one is going, and nothing tells which."""
    said = sight.answers.commits if sight else frozenset()
    (commit,) = said if len(said) == 1 else ("",)
    return commit if COMMIT.fullmatch(commit) else ""
