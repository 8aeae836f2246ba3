"""A file of the hub that is there in part: found, continued, kept and checked. The client holds its lock meanwhile.

The client names what it writes `<etag>.<8 hex>.incomplete`, another name each time, because not every volume's locks
are to be trusted. So does this: what another process left becomes ours by a rename, and no two that have the lock at
once put a file in place under one name. Only where the etag is the sha256 of the content, as it is of large files: what
was put together of two downloads must be the right file.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

log = logging.getLogger(__name__)
SHA256: Final = re.compile(r"[0-9a-f]{64}")
# Before huggingface_hub 1.18 all processes wrote one and the same, without the eight digits.
BEGUN: Final = re.compile(r"(?P<etag>.+?)(?P<own>\.[0-9a-f]{8})?\.incomplete")


@dataclass(frozen=True)
class Partial:
    """`path`: where this process writes the file; the client has made it, and moves it into place in the end."""

    path: Path
    etag: str
    size: int

    @classmethod
    def at(cls, path: Path, size: int | None) -> Partial | None:
        """None if the client calls its files otherwise, or if nobody could tell whether the file is right."""
        begun = BEGUN.fullmatch(path.name)
        if begun and begun["own"] and size and SHA256.fullmatch(begun["etag"]):
            return cls(path, begun["etag"], size)
        return None

    def fetch(self, get: Callable[[int], bool]) -> None:
        """The whole file. `get`: writes it to the path from this byte on; False if it cannot be had from there."""
        start = self._take_up()
        try:
            if start and not self._continue(get, start):
                log.warning("what there was of %s is of no use: it is downloaded from its first byte", self.etag)
                self.path.unlink()
                start = 0
            if not start:
                get(0)
            self._sync()
        except BaseException:
            self._keep()
            raise

    def _take_up(self) -> int:
        """Bytes of the longest part that others left, which is at the path now; their other parts go."""
        parts = [path for path in self.path.parent.glob(f"{self.etag}.*incomplete") if path != self.path]
        for path in sorted(parts, key=_length, reverse=True):
            with suppress(OSError):  # it has gone, or is not ours to use
                if not _length(self.path) and 0 < _length(path) <= self.size and os.access(path, os.R_OK | os.W_OK):
                    path.replace(self.path)
                else:
                    path.unlink()
        return _length(self.path)

    def _continue(self, get: Callable[[int], bool], start: int) -> bool:
        """Whether it is the right file then. The hash also tells of blocks that a failed node never wrote."""
        if start < self.size and not get(start):
            return False
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == self.etag

    def _sync(self) -> None:
        """Onto the disk before it has its name: a node that fails would leave the name, and not all of the content."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())

    def _keep(self) -> None:
        """For the next one: the client removes what is at its path after an error."""
        with suppress(OSError):  # the error counts more
            if _length(self.path):
                self.path.rename(self.path.with_name(f"{self.etag}.{uuid4().hex[:8]}.incomplete"))


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
