"""A disk on which nothing has room."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import NoReturn

import pytest


def fill(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on no file takes any text."""

    def write_text(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", write_text)
