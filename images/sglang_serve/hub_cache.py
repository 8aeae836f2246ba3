"""What the cache of the hub's client has of one repository: `<HF_HUB_CACHE>/models--<org>--<name>`.

The client itself finds a copy only by a branch that it has downloaded, and only if no file was left out. So this keeps
beside it, as the client would, which commit a branch was (`refs/`), and which files a commit has (`listings/`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from sglang_serve import volume_lock
from sglang_serve.args import COMMIT
from sglang_serve.hub_partial import BEGUN, SHA256
from sglang_serve.volume_lock import VolumeLock
from sglang_serve.weights import unneeded


@dataclass(frozen=True)
class File:
    """As the hub lists it."""

    size: int
    """0 if the hub does not say."""
    blob: str
    """Name of its content in the cache."""


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

    def remember(self, revision: str, commit: str, files: Mapping[str, File]) -> None:
        """Note that a whole copy is of this revision. A cache that is read-only is not written: it stays as good."""
        sizes = {name: file.size for name, file in sorted(files.items())}
        try:
            _write(self._listing(commit), json.dumps(sizes))
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
        """The directory of this commit, if it has every file that is needed, and all of it."""
        sizes = self._sizes_of(commit)
        if sizes is None:
            return None
        snapshot, leave = self.place / "snapshots" / commit, unneeded(tuple(sizes), load_format)
        needed = {snapshot / name: size for name, size in sizes.items() if name not in leave}
        is_whole = all(path.exists() and not _is_short(path, size) for path, size in needed.items())
        return snapshot if is_whole else None

    def is_listed(self, commit: str) -> bool:
        """Whether it is known which files this commit has, so that `whole` is right of it."""
        return self._sizes_of(commit) is not None

    def remove_short(self, commit: str, files: Mapping[str, File]) -> None:
        """Remove what is shorter than the hub lists it: a node that failed may have left the name of a file and not its
        content, and the client takes whatever has the name for whole.

        Raises OSError for what is not ours to remove, StartError on a volume without locks.
        """
        for name, file in files.items():
            paths = self._paths(file.blob, self.place / "snapshots" / commit / name)
            if any(_is_short(path, file.size) for path in paths):
                with self._locked(file.blob) as lock:
                    if lock.take():  # else somebody downloads it
                        _unlink_short(paths, file.size)

    def _paths(self, blob: str, name: Path) -> tuple[Path, ...]:
        """Of one file: its content, which a mirror may name otherwise than it lists it, and its name."""
        blobs = self.place / "blobs"
        linked = name.resolve()
        other = (linked,) if linked.parent == blobs.resolve() and linked.name != blob else ()
        return (blobs / blob, *other, name)

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
                    self._locked(begun["etag"]) as lock,
                ):
                    is_ours = lock.take()  # else somebody downloads it
                    if is_ours and not (begun["etag"] in wanted and self._is_taken_up(begun["etag"])):
                        path.unlink(missing_ok=True)

    def _locked(self, blob: str) -> AbstractContextManager[VolumeLock]:
        """The client's lock of what has this name, open."""
        return volume_lock.opened(self.root / ".locks" / self.name / f"{blob}.lock")

    def _listing(self, commit: str) -> Path:
        return self.place / "listings" / f"{commit}.json"

    def _sizes_of(self, commit: str) -> Mapping[str, int] | None:
        try:
            listed = json.loads(self._listing(commit).read_text())
        except (OSError, ValueError):
            return None
        return listed if isinstance(listed, dict) else dict.fromkeys(listed, 0)  # names alone: of an older image

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


def _is_short(path: Path, size: int) -> bool:
    """Not "of another size": a proxy's listing may have that of the pointer to a large file."""
    try:
        return path.is_file() and path.stat().st_size < size
    except FileNotFoundError:  # just removed
        return False


def _unlink_short(paths: Collection[Path], size: int) -> None:
    for path in paths:
        if _is_short(path, size) or (path.is_symlink() and not path.exists()):
            path.unlink(missing_ok=True)


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{uuid4().hex[:8]}.tmp")
    fresh.write_text(text)
    fresh.replace(path)
