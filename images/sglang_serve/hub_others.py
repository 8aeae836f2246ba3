"""What others have downloaded into the hub's cache: there is no listing of it, only its files to judge by."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

from sglang_serve.weights import DUPLICATES, READ, unneeded

WEIGHTS: Final = ("*.safetensors", *DUPLICATES)
WITHOUT: Final = "dummy"  # the load_format under which SGLang makes weights up
SHARD: Final = re.compile(r"(?P<first>.*-)\d{5}-of-(?P<number>\d{5})(?P<end>\.\w+)")


def looks_whole(snapshot: Path, load_format: str) -> bool:
    """Whether nothing shows that a copy is half: there are weights, all that an index names, and of shards all that one
    of them counts (the index is downloaded after them). What is not needed may lack."""
    names = {str(path.relative_to(snapshot)) for path in snapshot.rglob("*") if path.exists()}
    needed = names - set(unneeded(tuple(names), load_format))
    read = READ.get(load_format)
    weights = {name for name in needed if any(fnmatch(name, kind) for kind in ((read,) if read else WEIGHTS))}
    indexes = () if read else [name for name in needed if fnmatch(name, "*.safetensors.index.json") and "/" not in name]
    named = _named_by_shards(weights) | _named_by_indexes(snapshot / name for name in indexes)
    return load_format == WITHOUT or (bool(weights) and named <= names)


def _named_by_shards(names: Collection[str]) -> set[str]:
    found = [shard for name in names if (shard := SHARD.fullmatch(name))]
    return {
        f"{shard['first']}{number:05}-of-{shard['number']}{shard['end']}"
        for shard in found
        for number in range(1, int(shard["number"]) + 1)
    }


def _named_by_indexes(indexes: Iterable[Path]) -> set[str]:
    named: set[str] = set()
    for path in indexes:
        with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):  # the engine tells what is wrong
            named |= set(json.loads(path.read_text())["weight_map"].values())
    return named
