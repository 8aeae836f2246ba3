"""Questions to a cluster through the user's own kubectl: its contexts, logins and proxies are not learned again."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from typing import Any, Final

ENDPOINTS: Final = "sglangendpoints.serve.sglang.io"
ASK_SECONDS: Final = 30.0  # of one kubectl: it asks for the kinds first, and may wait for a login
REQUEST_TIMEOUT: Final = "20s"  # of one of its requests; kubectl's own is none
_CHOOSE: Final = "choose a cluster that answers with --context or --kubeconfig"
_NAME_ONE: Final = "name a kubeconfig that is there and whole with --kubeconfig or KUBECONFIG"
# What kubectl says, and what to do: of what asking again does not change, and of what it may.
_FINAL: Final = {
    "doesn't have a resource type": "install the operator, whose chart brings SGLangEndpoint, or choose its --context",
    r"\(NotFound\)": "`kubectl get sgl -A` lists what there is; -n chooses the namespace",
    r"\(Forbidden\)": "ask for the right to get sglangendpoints there; the chart's rbac.aggregate adds it to `view`",
    r"context was not found|context \S+ does not exist": "`kubectl config get-contexts` lists those that there are",
    "You must be logged in to the server": "log in to the cluster again: it does not take this token or certificate",
    "resource name may not be empty|in resource/name form": "give the name of the endpoint alone, such as qwen3",
    # Not of a socket, which may come: "dial unix /run/x: connect: no such file or directory".
    r"\b(stat|open) [^:]+: no such file or directory": _NAME_ONE,
    "error loading config file|Error in configuration|no configuration has been provided": _NAME_ONE,
}
_PASSING: Final = {
    # What kubectl asks where no kubeconfig names a cluster.
    "localhost:8080 was refused": "no kubeconfig names a cluster: choose with --kubeconfig, KUBECONFIG or --context",
    "connect|deadline exceeded|Client.Timeout": _CHOOSE,
}
# Of kubectl's log, which says the same up to seven times before: "E1201 03:49:58.417071   21043 memcache.go:265] …".
_LOG_LINE: Final = re.compile(r"[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+ ")


class KubectlError(Exception):
    """kubectl did not answer; the text is its own, with the remedy. `is_final`: asking again changes nothing."""

    def __init__(self, message: str, remedy: str, *, is_final: bool) -> None:
        super().__init__(f"{message}\n  remedy: {remedy}")
        self.is_final = is_final


def get_endpoint(name: str, flags: Sequence[str], seconds: float = ASK_SECONDS) -> dict[str, Any]:
    """The SGLangEndpoint as it is stored, within `seconds`. `flags`: kubectl's own, such as --context. Raises
    KubectlError."""
    command = ["kubectl", "get", ENDPOINTS, "--output=json", f"--request-timeout={REQUEST_TIMEOUT}", *flags, "--", name]
    text = _run(command, min(seconds, ASK_SECONDS))
    try:
        found: dict[str, Any] = json.loads(text)
    except ValueError:
        remedy = "see what `kubectl get sgl -o json` prints; nothing else may write there"
        raise KubectlError("what kubectl prints is no JSON", remedy, is_final=True) from None
    return found


def _run(command: Sequence[str], seconds: float) -> str:
    try:
        # As UTF-8 whatever the locale is: kubectl writes no other.
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=seconds, check=False
        )
    except FileNotFoundError:
        raise KubectlError("kubectl is not in PATH", "install kubectl", is_final=True) from None
    except OSError as error:
        message = f"kubectl cannot be started: {error.strerror}"
        raise KubectlError(message, "install a kubectl for this machine", is_final=True) from None
    except subprocess.TimeoutExpired:
        message = f"kubectl did not answer within {seconds:.0f} s"
        raise KubectlError(message, f"{_CHOOSE}; log in first if it waits for that", is_final=False) from None
    if done.returncode:
        raise _explained(done.stderr)
    return done.stdout


def _explained(said: str) -> KubectlError:
    """Without kubectl's log where it says anything else."""
    lines = said.strip().splitlines()
    own = "\n".join([line for line in lines if not _LOG_LINE.match(line)] or lines)
    message = own.removeprefix("error: ").removeprefix("Error from server ")
    remedies = (remedy for words, remedy in {**_FINAL, **_PASSING}.items() if re.search(words, own))
    remedy = next(remedies, "see what `kubectl get sgl` says")
    return KubectlError(message or "kubectl failed", remedy, is_final=remedy in _FINAL.values())
