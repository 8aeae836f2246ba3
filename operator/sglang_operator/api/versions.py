"""versions.toml, the one place for versions and image names."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Any


@functools.cache
def versions() -> Mapping[str, Any]:
    """What it says, read once."""
    return tomllib.loads((resources.files("sglang_operator") / "versions.toml").read_text(encoding="utf-8"))
