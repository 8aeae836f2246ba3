"""What became of one check."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Status = Literal["pass", "fail", "skip"]


class Failed(Exception):  # noqa: N818 - what the check has
    """What was expected and what was found, in one sentence, and a log where there is one."""

    def __init__(self, what: str, log: str = "") -> None:
        super().__init__(what)
        self.log = log


class Skipped(Exception):  # noqa: N818 - what the check is
    """Why the check does not apply to this machine."""


@dataclass(frozen=True)
class Outcome:
    """One line of the report."""

    name: str
    status: Status
    seconds: float
    detail: str  # what was measured, or what is wrong
    log: str = ""


def run(name: str, check: Callable[[], str], log_of_failed: Callable[[], str] = str) -> Outcome:
    """Run one check, which returns what it measured. Whatever it raises becomes its outcome: the others still run.

    A failure that brings no log has `log_of_failed()`.
    """
    began = time.monotonic()
    status: Status = "pass"
    log = ""
    try:
        detail = check()
    except Skipped as reason:
        status, detail = "skip", str(reason)
    except Failed as failure:
        status, detail, log = "fail", str(failure), failure.log
    except Exception as error:  # noqa: BLE001 - a report with one broken check is worth more than a traceback
        status, detail = "fail", f"{type(error).__name__}: {error}"
    log = log or (log_of_failed() if status == "fail" else "")
    return Outcome(name, status, round(time.monotonic() - began, 1), detail, log)
