"""What the cache of the hub's client has of one repository: `<HF_HUB_CACHE>/models--<org>--<name>`.

The client itself finds a copy only by a branch that it has downloaded, and only if no file was left out. So this keeps
beside it, as the client would, which commit a branch was (`refs/`), and which files a commit has (`listings/`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from sglang_serve import volume_lock
from sglang_serve.args import COMMIT
from sglang_serve.hub_partial import BEGUN, SHA256
from sglang_serve.weights import unneeded


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

    def remove_leftovers(self, wanted: Collection[str]) -> None:
        """Remove what processes that were killed had begun, unless it is taken up: parts of files that are wanted, by
        name of their content, and not there yet.

        Raises StartError where it cannot be told whether they were: the client would wait for them for ever.
        """
        for path in self._blobs():
            if begun := BEGUN.fullmatch(path.name):
                with (
                    suppress(OSError),  # it is not ours to remove
                    volume_lock.opened(self.root / ".locks" / self.name / f"{begun['etag']}.lock") as lock,
                ):
                    is_ours = lock.take()  # else somebody downloads it
                    if is_ours and not (begun["etag"] in wanted and self._is_taken_up(begun["etag"])):
                        path.unlink(missing_ok=True)

    def _is_taken_up(self, blob: str) -> bool:
        return SHA256.fullmatch(blob) is not None and not (self.place / "blobs" / blob).exists()

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
