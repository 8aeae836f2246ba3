"""What the endpoint's Service selects, and what it remembers of that. Read and written in one object, never half."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from sglang_operator.api.base import DNS_LABEL
from sglang_operator.cluster.metadata import notes_of, read_seconds
from sglang_operator.lifecycle.observed import NOTHING, Selection
from sglang_operator.render import names

SERVING: Final = "serve.sglang.io/serving"
PREVIOUS: Final = "serve.sglang.io/previous"
SWITCHED_AT: Final = "serve.sglang.io/switched-at"
LONGEST_NAME: Final = 63  # of what is the value of a label


def read_selection(service: Mapping[str, Any] | None) -> Selection:
    """From the Service in the cluster. The annotation counts, not the selector: a selector that somebody edited by hand
    is put back to it. A time that is none counts as long ago, a name that is none as no revision, and both are written
    anew."""
    if service is None:
        return NOTHING
    notes = notes_of(service)
    return Selection(
        revision=_read_name(notes.get(SERVING, "")),
        previous=_read_name(notes.get(PREVIOUS, "")),
        switched_at=read_seconds(notes.get(SWITCHED_AT)) or 0.0,
        resource_version=service["metadata"]["resourceVersion"],
    )


def _read_name(text: str) -> str:
    """Nothing for what is no revision's: people edit annotations, and names go into paths of requests and selectors."""
    return text if len(text) <= LONGEST_NAME and re.fullmatch(DNS_LABEL, text) else ""


def notes_for(selection: Selection) -> dict[str, str]:
    """The annotations that remember it."""
    return {
        SERVING: selection.revision,
        PREVIOUS: selection.previous,
        SWITCHED_AT: f"{selection.switched_at:.3f}",
    }


def moved(live: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """A merge patch of the Service that was read: what it selects and the memory of that, and nothing else."""
    metadata = {name: live["metadata"][name] for name in ("uid", "resourceVersion")}
    notes = {name: notes_of(wanted)[name] for name in (SERVING, PREVIOUS, SWITCHED_AT)}
    return {"metadata": {**metadata, "annotations": notes}, "spec": {"selector": wanted["spec"]["selector"]}}


def selector_for(endpoint: str, revision: str) -> dict[str, str]:
    """Selects the workers of a revision; with "" it selects nothing, as every pod's label has a value."""
    return {names.ENDPOINT: endpoint, names.REVISION: revision, names.RAY_SERVE: "true"}
