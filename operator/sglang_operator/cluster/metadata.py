"""Who owns what the operator makes, and how to tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sglang_operator.api import API_VERSION, KIND
from sglang_operator.cluster.types import Key
from sglang_operator.render import names

LATEST: Final = 253402300799.0  # the last second of the year 9999, beyond which there is no RFC 3339
# Reading JSON of an annotation may raise these, as people edit annotations: another shape, brackets without an end.
SPOILT: Final = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)


@dataclass(frozen=True)
class Owner:
    """The endpoint that an object belongs to. The garbage collector deletes what it owns when it goes."""

    key: Key
    uid: str

    @property
    def reference(self) -> dict[str, Any]:
        """Entry of metadata.ownerReferences."""
        return {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": self.key.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }

    def owns(self, live: Mapping[str, Any]) -> bool:
        """Whether an object in the cluster is this endpoint's. Others are never touched, whatever their name."""
        return is_owned(live, self.uid)


def is_owned(live: Mapping[str, Any], uid: str) -> bool:
    """Whether the object of this uid is among the owners of another one."""
    references = live.get("metadata", {}).get("ownerReferences") or []
    return any(reference.get("uid") == uid for reference in references)


def selector_of(key: Key) -> str:
    """Label selector of all that is made for an endpoint; others may have copied the label."""
    return f"{names.ENDPOINT}={key.name}"


def owned(owner: Owner, name: str, labels: Mapping[str, str] | None = None) -> dict[str, Any]:
    """metadata of an object that the endpoint owns."""
    return {
        "name": name,
        "namespace": owner.key.namespace,
        "labels": {names.MANAGED_BY: names.MANAGER, names.ENDPOINT: owner.key.name, **(labels or {})},
        "ownerReferences": [owner.reference],
    }


def with_owner(owner: Owner, rendered: Mapping[str, Any], notes: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A rendered object as it goes to the cluster: with its owner, and annotations of ours beside the user's."""
    metadata = {**rendered["metadata"], "ownerReferences": [owner.reference]}
    if notes:
        metadata["annotations"] = {**metadata.get("annotations", {}), **notes}
    return {**rendered, "metadata": metadata}


def name_of(live: Mapping[str, Any]) -> str:
    """metadata.name."""
    return str(live["metadata"]["name"])


def labels_of(live: Mapping[str, Any]) -> Mapping[str, str]:
    """metadata.labels."""
    return live["metadata"].get("labels") or {}


def notes_of(live: Mapping[str, Any]) -> Mapping[str, str]:
    """metadata.annotations."""
    return live["metadata"].get("annotations") or {}


def condition_of(live: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The entry of status.conditions of this type; empty while it has none."""
    found = (live.get("status") or {}).get("conditions") or ()
    return next((one for one in found if one.get("type") == name), {})


def is_terminating(live: Mapping[str, Any]) -> bool:
    """It was deleted and is on its way out."""
    return "deletionTimestamp" in live["metadata"]


def unix(stamp: str | None) -> float:
    """Unix seconds of an RFC 3339 time; 0 without one."""
    return datetime.fromisoformat(stamp).timestamp() if stamp else 0.0


def stamp(seconds: float) -> str:
    """RFC 3339 of Unix seconds, as Kubernetes writes it: whole seconds, UTC."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_seconds(text: Any) -> float | None:
    """Unix seconds as an annotation keeps them; None for what is no time: people edit annotations."""
    try:
        seconds = float(text)
    except (TypeError, ValueError):
        return None
    return seconds if 0 <= seconds <= LATEST else None
