"""Keys read from mounted files, re-read when they change, kept as salted digests only."""

from __future__ import annotations

import hmac
import logging
import secrets
import time
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)

RECHECK_SECONDS = 1.0  # a new or withdrawn key counts within this time; Kubernetes itself takes up to a minute
_Fingerprint = tuple[tuple[str, int, int, int], ...]


class KeyRing:
    """The keys below `path`: a directory with one file per key (the file's name is the key's name), or a single file.

    A path that does not exist holds no key. A Secret is mounted as symlinks to a directory that kubelet swaps at once;
    a read that falls into the swap keeps the last whole set and is repeated at the next check.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._salt = secrets.token_bytes(32)
        self._keys: tuple[tuple[str, bytes], ...] = ()
        self._seen: _Fingerprint | None = None
        self._next_check = float("-inf")

    def name_of(self, key: bytes) -> str | None:
        """The name of this key, None if it is not on the ring. Every key is compared, each in constant time."""
        self._refresh()
        digest = self._digest(key)
        names = [name for name, known in self._keys if hmac.compare_digest(digest, known)]
        return names[0] if names else None

    def is_empty(self) -> bool:
        """Whether there is no key at all."""
        self._refresh()
        return not self._keys

    def _refresh(self) -> None:
        if self._clock() < self._next_check:
            return
        self._next_check = self._clock() + RECHECK_SECONDS
        try:
            files = self._files()
            seen = _fingerprint(files)
            if seen != self._seen:
                self._keys = self._read(files)
                self._seen = seen
                log.info("keys in %s: %s", self._path, ", ".join(name for name, _ in self._keys) or "none")
        except OSError as error:
            log.warning("keys in %s could not be read, the last ones stay: %s", self._path, error)

    def _files(self) -> list[Path]:
        """Hidden names are kubelet's (..data) and editors'."""
        if self._path.is_dir():
            return sorted(f for f in self._path.iterdir() if not f.name.startswith(".") and f.is_file())
        return [self._path] if self._path.is_file() else []

    def _read(self, files: list[Path]) -> tuple[tuple[str, bytes], ...]:
        contents = ((file.name, file.read_bytes().strip()) for file in files)
        return tuple((name, self._digest(key)) for name, key in contents if key)

    def _digest(self, key: bytes) -> bytes:
        return hmac.digest(self._salt, key, "sha256")


def _fingerprint(files: list[Path]) -> _Fingerprint:
    stats = ((file.name, file.stat()) for file in files)
    return tuple((name, s.st_ino, s.st_mtime_ns, s.st_size) for name, s in stats)
