"""Whether a live object already says what is wanted of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

# With one label more they select something else, and most often nothing; with a port, a peer or a rule more a policy
# (`ingress`) lets in what it was to keep out, or the other way round. Its rules are rendered with all defaults.
_WHOLE: Final = frozenset({"selector", "podSelector", "namespaceSelector", "ingress"})


def covers(live: Any, wanted: Any) -> bool:
    """`live` has everything that `wanted` has. More is fine, but for selectors: the server's defaults, and what others
    own."""
    if live == wanted:  # compared in C: most parts of most objects are equal
        return True
    if isinstance(wanted, Mapping):
        return isinstance(live, Mapping) and all(
            _covers_field(key, live.get(key), value) for key, value in wanted.items() if value is not None
        )
    if isinstance(wanted, list | tuple):
        return (live is None and not wanted) or (
            isinstance(live, list | tuple)
            and len(live) == len(wanted)
            and all(covers(one, other) for one, other in zip(live, wanted, strict=True))
        )
    return wanted in ("", False, 0) and live is None  # Kubernetes leaves empty values out


def _covers_field(key: str, live: Any, wanted: Any) -> bool:
    if key in _WHOLE and isinstance(wanted, Mapping | list):
        return bool((live or type(wanted)()) == wanted)
    return covers(live, wanted)
