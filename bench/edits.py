"""What the upgrades of a soak edit: one thing each, in turn, so that no kind of edit is left out of its counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from cluster.endpoints import engine_of

KINDS: Final = ("environment", "argument", "image")


def engine_after(number: int, images: Sequence[str]) -> dict[str, Any]:
    """`spec.engine` after the upgrade of that number: but for one kind it is that of the number before.

    The first upgrade is 0, so that -1 is what the endpoint starts with. An image comes back, the rest never does.
    """
    environment, argument, image = ((number - place) // len(KINDS) + 1 for place in range(len(KINDS)))
    return engine_of(
        {
            "env": [{"name": "COLOR", "value": str(environment)}],
            "args": {"random_seed": argument},
            "image": images[image % len(images)],
        }
    )


def kind(number: int) -> str:
    """What the upgrade of that number edits."""
    return KINDS[number % len(KINDS)]


def tally(numbers: Iterable[int]) -> Mapping[str, int]:
    """How many of these upgrades edit what."""
    return dict(Counter(map(kind, numbers)))
