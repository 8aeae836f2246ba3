"""Numbers that were written with a unit: what `15m` is in seconds, and `16Mi` in bytes."""

from __future__ import annotations

import re
from typing import Final

from sglang_operator.api.quantity import number

_TIME: Final = re.compile(
    r"((?P<d>\d{1,9})d)?((?P<h>\d{1,9})h)?((?P<m>\d{1,9})m(in)?)?((?P<s>\d{1,9})s(ec)?)?", re.ASCII
)
_SECONDS: Final = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
_BYTES: Final = re.compile(r"(?P<digits>\d+(\.\d+)?) *(?P<unit>[kmgtpe])(?P<i>i?)b?", re.IGNORECASE | re.ASCII)


def plain_number(name: str, text: str) -> str:
    """The remedy for a text where the field `name` takes a whole number; "" if nothing is known."""
    if "Seconds" in name and (seconds := _seconds(text)) is not None:
        return f"write {seconds} (seconds)"
    if name.endswith("Bytes") and (size := _bytes(text)) is not None:
        return f"write {size} (bytes)"
    return ""


def meant_bytes(text: str) -> str:
    """The remedy for `64 GB`, `64GiB` or `64g` as a quantity; "" for what is no size in bytes either."""
    match = _BYTES.fullmatch(text.strip())
    if not match or not float(match["digits"]):
        return ""
    digits, unit = match["digits"], match["unit"].upper()
    binary = f"{digits}{unit}i"
    return f"did you mean {binary}?" if match["i"] else f"did you mean {digits}{unit.replace('K', 'k')} or {binary}?"


def _seconds(text: str) -> int | None:
    """Of `1h30m`, `90s`, `15 min`; None for what is no duration in whole seconds."""
    match = _TIME.fullmatch(text.replace(" ", "").lower())
    if not match or not any(match.groups()):
        return None
    return sum(int(match[unit] or 0) * seconds for unit, seconds in _SECONDS.items())


def _bytes(text: str) -> int | None:
    match = _BYTES.fullmatch(text.strip())
    if not match:
        return None
    unit = match["unit"].upper()
    size = number(match["digits"] + (f"{unit}i" if match["i"] else unit.replace("K", "k")))
    return int(size) if size == int(size) else None
