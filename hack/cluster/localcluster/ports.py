"""Free ports, chosen once for a directory: a component that is started again comes back where it was."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

# Below what Linux gives to outgoing connections: nobody takes such a port by chance between our look and our use.
RANGE: Final = range(20_000, 32_000)


def choose(directory: Path, names: Sequence[str]) -> Mapping[str, int]:
    """A port for each name, the same ones at each call for a directory."""
    record = directory / "ports.json"
    if record.is_file():
        found: dict[str, int] = json.loads(record.read_text(encoding="utf-8"))
        return found
    candidates = iter(random.sample(RANGE, len(RANGE)))  # clusters that start at once shall differ
    chosen = {name: next(port for port in candidates if _free(port)) for name in names}
    record.write_text(json.dumps(chosen), encoding="utf-8")
    return chosen


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
