"""What the cache of the hub's client has of one repository: `<HF_HUB_CACHE>/models--<org>--<name>`.

The client itself finds a copy only by a branch that it has downloaded, and only if no file was left out. So this keeps
beside it, as the client would, which commit a branch was (`refs/`), and which files a commit has (`listings/`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

from filelock import FileLock, Timeout

from sglang_serve.weights import unneeded

COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_OF_ONE_PROCESS: Final = re.compile(r"(.+)\.[0-9a-f]{8}\.incomplete")  # no other goes on with it


@dataclass(frozen=True)
class HubCache:
    """`root`: that of all repositories."""

    root: Path
    repository: str

    @property
    def name(self) -> str:
        """Of its directory."""
        return f"models--{self.repository.replace('/', '--')}"

    @property
    def place(self) -> Path:
        """Its directory."""
        return self.root / self.name

    def remember(self, revision: str, commit: str, files: Collection[str]) -> None:
        """Note that a whole copy is of this revision. A cache that is read-only is not written: it stays as good."""
        try:
            _write(self.place / "listings" / f"{commit}.json", json.dumps(sorted(files)))
            if revision != commit:
                _write(self.place / "refs" / revision, commit)
        except OSError:
            return

    def commit(self, revision: str) -> str:
        """What a revision was when it was downloaded last, "" if it never was."""
        if COMMIT.fullmatch(revision):
            return revision
        try:
            return (self.place / "refs" / revision).read_text().strip()
        except OSError:
            return ""

    def whole(self, commit: str, load_format: str) -> Path | None:
        """The directory of this commit, if it has every file that is needed."""
        snapshot = self.place / "snapshots" / commit
        try:
            files = json.loads((self.place / "listings" / f"{commit}.json").read_text())
        except (OSError, ValueError):
            return None
        leave = unneeded(files, load_format)
        return snapshot if all((snapshot / name).exists() for name in files if name not in leave) else None

    def arrived(self, blobs: Collection[str]) -> Callable[[], int]:
        """A function that tells how many bytes there are of these files, by name of their content, and of whatever
        else comes from now on: another hub may name them otherwise."""
        others = {path.name for path in self._blobs() if path.name.partition(".")[0] not in blobs}
        return lambda: sum(size for name, size in self._sizes().items() if name not in others)

    def remove_leftovers(self) -> None:
        """Remove what processes that were killed had begun: the client begins each file anew, under another name."""
        for path in self._blobs():
            if begun := _OF_ONE_PROCESS.fullmatch(path.name):
                try:
                    with FileLock(self.root / ".locks" / self.name / f"{begun[1]}.lock", timeout=0):
                        path.unlink(missing_ok=True)
                except (Timeout, OSError):  # somebody downloads it, or it is not ours to remove
                    continue

    def _blobs(self) -> list[Path]:
        try:
            return list((self.place / "blobs").iterdir())
        except FileNotFoundError:  # not begun
            return []

    def _sizes(self) -> Mapping[str, int]:
        """Bytes on disk: a file that is being written may be sparse."""
        sizes = {}
        for path in self._blobs():
            try:
                sizes[path.name] = path.stat().st_blocks * 512
            except FileNotFoundError:  # just renamed
                continue
        return sizes


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{uuid4().hex[:8]}.tmp")
    fresh.write_text(text)
    fresh.replace(path)
