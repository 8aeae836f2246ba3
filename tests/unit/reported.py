"""Endpoints with a status, as the operator reports it."""

from __future__ import annotations

from typing import Any

SERVING = ("Ready", "True", "Serving")
SILENT = ("Ready", "False", "NotServing")
STOPPED = ("Ready", "False", "Stopped")
COMPLETE = ("Progressing", "False", "RolloutComplete")


def endpoint(*conditions: tuple[str, str, str], generation: int = 2, **status: Any) -> dict[str, Any]:
    """Each condition by type, status and reason; its message is its reason in small letters."""
    found = [
        {"type": kind, "status": state, "reason": reason, "message": reason.lower()}
        for kind, state, reason in (("Accepted", "True", "Valid"), *conditions)
    ]
    made = {"observedGeneration": 2, "conditions": found, **status}
    return {"metadata": {"name": "e", "namespace": "n", "generation": generation}, "status": made}


DONE = endpoint(SERVING, COMPLETE)
