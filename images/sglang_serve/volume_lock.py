"""A lock on a volume: one process of all pods that mount it has it, and the kernel frees it however that process ends.

Not filelock's own: where a volume has no such locks it goes on with a file that only its maker removes. A pod that is
killed does not, and then all others wait for ever. With filelock's locks, and so the hub client's, it shares the file.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sglang_serve.errors import StartError

_HELD: Final = frozenset({errno.EAGAIN, errno.EACCES})  # by somebody else; which of the two is the file system's choice
_NO_LOCKS: Final = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK})
REMEDY: Final = (
    "mount the volume with file locks (Lustre: the option flock; NFS: version 4, or a server with a lock daemon), or "
    "choose another spec.model.cache.storageClassName"
)


class VolumeLock:
    """A lock file that is open; closing it frees the lock."""

    def __init__(self, path: Path, handle: int) -> None:
        self._path = path
        self._handle = handle

    def take(self) -> bool:
        """Whether it is ours now; does not wait. Raises StartError if the volume has no locks."""
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                raise StartError("DownloadFailed", f"the volume has no file locks: {self._path}", REMEDY) from error
            if error.errno in _HELD:
                return False
            raise
        return bool(os.fstat(self._handle).st_nlink)  # else its owner removed the file, and others lock a new one


@contextmanager
def opened(path: Path) -> Iterator[VolumeLock]:
    """The lock of this file, which is made if need be; free again after the block."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        yield VolumeLock(path, handle)
    finally:
        os.close(handle)
