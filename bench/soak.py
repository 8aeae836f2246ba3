"""What a soak has lost so far: its parts in a file, kept from run to run, and their table in docs/reliability.md."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cluster.load import Count

from sglang_operator.api.versions import versions

BEGIN, END = "<!-- soak: written by bench/hitless.py -->", "<!-- soak: end -->"
HEAD = """\
| date | event | events | what was edited | requests | clients | longest stream | lost | bound |
|---|---|---|---|---|---|---|---|---|"""


def software() -> str:
    """The versions that this checkout serves with."""
    known: dict[str, Any] = dict(versions())
    names = {"SGLang": known["sglang"], "Ray": known["ray"], "KubeRay": known["kuberay"]}
    return ", ".join(f"{name} {version}" for name, version in names.items()) + f", Kubernetes {known['kubernetes'][-1]}"


@dataclass(frozen=True)
class Part:
    """One kind of event under one load."""

    what: str
    events: int
    count: Count
    edited: Mapping[str, int]
    """How many of the events edited what."""
    date: str = field(default_factory=lambda: datetime.now(UTC).date().isoformat())
    software: str = field(default_factory=software)


def read_parts(file: Path | None) -> list[Part]:
    """Those of earlier runs; none without a file."""
    if file is None or not file.is_file():
        return []
    rows = json.loads(file.read_text())["parts"]
    return [Part(**{**row, "count": Count.read(row["count"])}) for row in rows]


def write_parts(file: Path | None, parts: Sequence[Part]) -> None:
    """All of them; what was in the file is among them."""
    if file:
        file.write_text(json.dumps({"parts": [asdict(part) for part in parts]}, indent=1) + "\n")


def renew(page: Path | None, parts: Sequence[Part]) -> None:
    """Put their table between the two marks of the page. Raises ValueError if the page has none."""
    if page is None:
        return
    between = re.compile(f"(?<={re.escape(BEGIN)}\n).*?(?={re.escape(END)})", re.DOTALL)
    text, found = between.subn(lambda _: f"\n{table(parts)}\n\n", page.read_text())
    if not found:
        raise ValueError(f"{page} has no lines {BEGIN!r} and {END!r} for the table to stand between")
    page.write_text(text)


def table(parts: Sequence[Part]) -> str:
    """Markdown: a row for each kind of event and day, then one for each kind; the versions below."""
    lines = [row(of[0].date, of) for of in grouped(parts, lambda part: (part.what, part.date))]
    kinds = sorted(grouped(parts, lambda part: part.what), key=lambda of: of[0].what)
    lines += [row("in all", of) for of in kinds]
    return "\n".join([HEAD, *lines, "", f"With {'; '.join(dict.fromkeys(part.software for part in parts))}."])


def grouped(parts: Iterable[Part], key: Callable[[Part], object]) -> list[list[Part]]:
    """Those with the same key together, in the order in which the keys come first."""
    groups: dict[object, list[Part]] = {}
    for part in parts:
        groups.setdefault(key(part), []).append(part)
    return list(groups.values())


def row(date: str, parts: Sequence[Part]) -> str:
    """Of one kind of event."""
    count, events = total(part.count for part in parts), sum(part.events for part in parts)
    lost = f"**0** | {100 * count.bound:.2g} %" if not count.lost else f"{len(count.lost)} |"
    numbers = (
        f"{events} | {edited(parts)} | {count.requests} | {count.clients} | {count.longest_seconds:.0f} s | {lost}"
    )
    return f"| {date} | {parts[0].what} | {numbers} |"


def edited(parts: Iterable[Part]) -> str:
    """Of all of them, such as "environment 4, argument 3"."""
    kinds: Counter[str] = Counter()
    for part in parts:
        kinds.update(part.edited)
    return ", ".join(f"{kind} {number}" for kind, number in kinds.items())


def total(counts: Iterable[Count]) -> Count:
    """Of all their loads."""
    found = list(counts)
    return Count(
        requests=sum(one.requests for one in found),
        longest_seconds=max(one.longest_seconds for one in found),
        clients=max(one.clients for one in found),
        lost=[lost for one in found for lost in one.lost],
    )


def summary(parts: Sequence[Part]) -> Iterator[str]:
    """A line for each kind of event."""
    for of in grouped(parts, lambda part: part.what):
        yield f"in all, {of[0].what}: {sum(part.events for part in of)} events, {total(part.count for part in of)}"
