"""Records of revisions: one ControllerRevision each, as a Deployment keeps ReplicaSets and a StatefulSet keeps these.

What a revision is (`data`) never changes; what became of it is in annotations.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from sglang_operator.api import Endpoint
from sglang_operator.cluster.metadata import SPOILT, Owner, owned, read_seconds
from sglang_operator.cluster.paths import RECORD
from sglang_operator.lifecycle.observed import Failure, Record
from sglang_operator.render import names
from sglang_operator.render.revision import changed_fields, recorded_fields, written_fields
from sglang_serve.args import COMMIT

FORMAT: Final = 1  # of `data`; a later format must still read this one
FAILURE: Final = "serve.sglang.io/failure"
DRAINING_SINCE: Final = "serve.sglang.io/draining-since"
MODEL_COMMIT: Final = "serve.sglang.io/model-commit"

Object = dict[str, Any]


@dataclass(frozen=True)
class StoredRevision:
    """One record as it is in the cluster."""

    name: str
    record: Record
    fields: Mapping[str, Any]
    """Values of the [R] fields by path, as they were in effect then: what the user wrote, and the defaults under it. In
    records of v0.1 those of the platform are missing."""
    written: frozenset[str]
    """Those of them that the user had written."""
    ray_service: Mapping[str, Any]
    """The RayService as first rendered: it is what is applied, repaired, restored and rolled back to."""
    recorded_at: str
    """RFC 3339."""
    commit: str = ""
    """What the model's branch was for the revision's first Ray cluster, and is for all later ones; "": not known."""
    uid: str = ""
    resource_version: str = ""


class NewerRecordError(Exception):
    """A later operator has written this record: what it means here is unknown, so nothing is made of it."""

    def __init__(self, name: str, found: object) -> None:
        super().__init__(
            f"record {name} (ControllerRevision) has format {found}, this operator reads {FORMAT}: it was written by a "
            "later version of the operator. Install that one again; until then nothing is changed"
        )


def read_record(stored: Mapping[str, Any]) -> StoredRevision:
    """From the object in the cluster. Raises NewerRecordError."""
    metadata, data = stored["metadata"], stored["data"]
    if data.get("format", FORMAT) != FORMAT:
        raise NewerRecordError(metadata["name"], data["format"])
    notes = metadata.get("annotations") or {}
    return StoredRevision(
        name=metadata["name"],
        record=Record(
            number=int(stored["revision"]),
            failure=_read_failure(notes.get(FAILURE, "")),
            draining_since=read_seconds(notes.get(DRAINING_SINCE)),
        ),
        fields=data["fields"],
        written=frozenset(data["written"]),
        ray_service=data["rayService"],
        recorded_at=metadata.get("creationTimestamp", ""),
        commit=_read_commit(notes.get(MODEL_COMMIT, "")),
        uid=metadata.get("uid", ""),
        resource_version=metadata.get("resourceVersion", ""),
    )


def new_record(owner: Owner, number: int, endpoint: Endpoint, ray_service: Mapping[str, Any]) -> Object:
    """The object that records a revision for the first time."""
    revision = ray_service["metadata"]["name"]
    return {
        "apiVersion": RECORD.api_version,
        "kind": RECORD.name,
        "metadata": owned(owner, revision, {names.REVISION: revision}),
        "revision": number,
        "data": {
            "format": FORMAT,
            "fields": recorded_fields(endpoint),
            "written": sorted(written_fields(endpoint)),
            "rayService": dict(ray_service),
        },
    }


def find_record(endpoint: Endpoint, records: Iterable[StoredRevision]) -> StoredRevision | None:
    """The record of what the user asks for, the newest if there are several. Nothing but the user's own fields counts:
    other defaults, templates or images of the operator are no reason for a rollout."""
    same = [stored for stored in records if not changes(endpoint, stored)]
    return max(same, key=lambda stored: stored.record.number, default=None)


def changes(endpoint: Endpoint, stored: StoredRevision) -> tuple[str, ...]:
    """Paths of the fields in which the spec differs from what was recorded."""
    return changed_fields(endpoint, stored.fields, stored.written)


def note_failure(failure: Failure | None) -> dict[str, str | None]:
    """Annotations that remember a failure, or forget it."""
    return {FAILURE: json.dumps(asdict(failure)) if failure else None}


def note_commit(commit: str) -> dict[str, str | None]:
    """Annotations that freeze the commit of a branch."""
    return {MODEL_COMMIT: commit}


def _read_commit(text: str) -> str:
    """Nothing for what is no commit: people edit annotations. It is found out again."""
    return text if COMMIT.fullmatch(text) else ""


def _read_failure(text: str) -> Failure | None:
    """None also for what nobody can read any more: the revision is tried again, and fails again if it must."""
    try:
        said = json.loads(text)
        at = read_seconds(said["at"])
        tail = tuple(map(str, said.get("log_tail") or ()))
        return None if at is None else Failure(str(said["reason"]), str(said["message"]), at, tail)
    except SPOILT:
        return None
