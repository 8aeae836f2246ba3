"""The report: JSON for programs, Markdown for people, nothing secret in either."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sglang_serve.conformance.machine import Machine
from sglang_serve.conformance.outcome import Outcome

SCHEMA = 2  # of report.json
SECRET_NAME = re.compile(r"key|token|secret|password|credential", re.IGNORECASE)
SHORTEST_SECRET = 8  # shorter values of such variables ("1", "true") are settings
SIGNS = {"pass": "✅", "fail": "❌", "skip": "-"}


@dataclass(frozen=True)
class Report:
    """One run."""

    date: str  # UTC, ISO 8601
    seconds: float
    model: str
    engine: Mapping[str, Any]
    quick: bool
    machine: Machine
    outcomes: tuple[Outcome, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(one.status != "fail" for one in self.outcomes)

    @property
    def verdict(self) -> str:
        """ "PASS (7 pass, 1 skip)"."""
        counts = Counter(one.status for one in self.outcomes)
        return f"{'PASS' if self.passed else 'FAIL'} ({', '.join(f'{n} {status}' for status, n in counts.items())})"


def to_json(report: Report) -> str:
    """For programs; the fields are those of the dataclasses."""
    return (
        json.dumps({"schema": SCHEMA, "passed": report.passed, **asdict(report)}, indent=2, ensure_ascii=False) + "\n"
    )


def to_markdown(report: Report) -> str:
    """For people."""
    parts = [
        f"# Conformance: {report.verdict}",
        f"{report.date}, {report.seconds:.0f} s{', quick' if report.quick else ''}",
        _table(("check", "", "s", "measured"), [_row(one) for one in report.outcomes]),
        "## Where",
        _table(("what", "is"), _facts(report)),
        *(f"## Log of “{one.name}”\n\n```\n{one.log}\n```" for one in report.outcomes if one.log),
    ]
    return "\n\n".join(parts) + "\n"


def _row(one: Outcome) -> tuple[str, ...]:
    return one.name, SIGNS[one.status], f"{one.seconds:.1f}", one.detail.replace("\n", " ").replace("|", "\\|")


def _facts(report: Report) -> list[tuple[str, ...]]:
    machine = report.machine
    devices = Counter(f"{one['name']} ({one['memory_gib']} GiB)" for one in machine.accelerators)
    return [
        ("vendor", machine.vendor),
        ("accelerators", ", ".join(f"{count} x {name}" for name, count in devices.items()) or "none"),
        ("driver", machine.driver),
        ("PyTorch's runtime", machine.runtime),
        ("processor", f"{machine.cpu}, {machine.cores} cores, {machine.memory_gib} GiB"),
        ("system", machine.system),
        ("Python", machine.python),
        ("serving image", machine.image),
        ("sglang_serve", machine.code),
        *machine.versions.items(),
        ("model", report.model),
        ("engine arguments", json.dumps(dict(report.engine))),
    ]


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def redact(text: str, environ: Mapping[str, str], own: tuple[str, ...]) -> str:
    """`text` without our own keys, and without the value of any environment variable that is named like a secret."""
    named = (value for name, value in environ.items() if SECRET_NAME.search(name) and len(value) >= SHORTEST_SECRET)
    for secret in {*own, *named}:
        text = text.replace(secret, "***")
    return text


def public_arguments(engine: Mapping[str, Any]) -> dict[str, Any]:
    """Engine arguments with the value of those masked that are named like a secret."""
    return {name: "***" if SECRET_NAME.search(name) else value for name, value in engine.items()}
