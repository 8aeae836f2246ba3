"""Questions to a cluster through the user's own kubectl: its contexts, logins and proxies are not learned again."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from typing import Any, Final

ENDPOINTS: Final = "sglangendpoints.serve.sglang.io"
# What kubectl says, and what to do: of what asking again does not change, and of what it may.
_FINAL: Final = {
    "doesn't have a resource type": "install the operator, whose chart brings SGLangEndpoint, or choose its --context",
    "NotFound": "`kubectl get sgl -A` lists what there is; -n chooses the namespace",
    "Forbidden": "ask for the right to get sglangendpoints there; the chart's rbac.aggregate adds it to `view`",
}
_PASSING: Final = {"connect": "choose a cluster that answers with --context or --kubeconfig"}


class KubectlError(Exception):
    """kubectl did not answer; the text is its own, with the remedy. `is_final`: asking again changes nothing."""

    def __init__(self, message: str, remedy: str, *, is_final: bool) -> None:
        super().__init__(f"{message}\n  remedy: {remedy}")
        self.is_final = is_final


def get_endpoint(name: str, flags: Sequence[str]) -> dict[str, Any]:
    """The SGLangEndpoint as it is stored. `flags`: kubectl's own, such as --context. Raises KubectlError."""
    command = ["kubectl", "get", ENDPOINTS, name, "--output=json", *flags]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise KubectlError("kubectl is not in PATH", "install kubectl", is_final=True) from None
    if done.returncode:
        raise _explained(done.stderr.strip())
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _explained(said: str) -> KubectlError:
    message = said.removeprefix("error: ").removeprefix("Error from server ")
    remedies = (remedy for words, remedy in {**_FINAL, **_PASSING}.items() if words in said)
    remedy = next(remedies, "see what `kubectl get sgl` says")
    return KubectlError(message, remedy, is_final=remedy in _FINAL.values())
