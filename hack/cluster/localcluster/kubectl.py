"""kubectl for one cluster, for tests and for our own start: the real client, so that errors read as users see them."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml

from localcluster.tools import program

SECONDS: Final = 240.0  # two cores on which one engine serves and another one loads
STEP_SECONDS: Final = 0.1
T = TypeVar("T")


class Refused(AssertionError):  # noqa: N818 - what happened
    """kubectl ended with an error; the text is what it said."""


@dataclass(frozen=True)
class Kubectl:
    """Calls kubectl with one kubeconfig and nothing of the user's."""

    kubeconfig: Path

    def __call__(self, *arguments: str, stdin: str = "", seconds: float = SECONDS) -> str:
        """What `kubectl <arguments>` prints."""
        command = [str(program("kubectl")), f"--kubeconfig={self.kubeconfig}", *arguments]
        environment = {**os.environ, "KUBECTL_KUBERC": "false", "NO_PROXY": "*"}
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=seconds, check=False, env=environment
        )
        if done.returncode:
            raise Refused(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def apply(self, objects: str | Iterable[Mapping[str, Any]], *flags: str) -> str:
        """Server-side apply of YAML text or of objects."""
        text = objects if isinstance(objects, str) else yaml.safe_dump_all(objects)
        return self("apply", "--server-side", "-f", "-", *flags, stdin=text)

    def objects(self, *arguments: str) -> list[dict[str, Any]]:
        """`kubectl get <arguments>`: the objects, none for a name that is not there."""
        text = self("get", *arguments, "--ignore-not-found", "-o", "json")
        found: dict[str, Any] = json.loads(text or '{"items": []}')
        items: list[dict[str, Any]] = found.get("items", [found])
        return items


def until(look: Callable[[], T], seconds: float, what: str | Callable[[], str], step: float = STEP_SECONDS) -> T:
    """The first value of `look()` that is true. AssertionError after `seconds`, with `what` was waited for: a callable
    says it at that time."""
    limit = time.monotonic() + seconds
    while not (value := look()):
        if time.monotonic() > limit:
            raise AssertionError(f"waited {seconds:.0f} s for {what if isinstance(what, str) else what()}")
        time.sleep(step)
    return value
