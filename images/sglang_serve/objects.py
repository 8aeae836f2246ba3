"""Downloads from object storage, s3:// and gs://, with progress. Runs where obstore is: in the engine environment.

On the volume: `<root>/<name>-<hash of the address>/<hash of the listing>/`, complete or not there. A download that
broke off is taken up where it stopped, by whichever process holds the lock then.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, TypeAlias

import obstore
from obstore.store import GCSStore, S3Store

from sglang_serve import volume_lock
from sglang_serve.errors import StartError
from sglang_serve.object_errors import NobodyToAskError, named, on_volume
from sglang_serve.progress import Bytes, Say, following
from sglang_serve.weights import READ, STREAMED, unneeded, without_weights

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import ClientConfig, RetryConfig

Store: TypeAlias = S3Store | GCSStore
PIECE: Final = 16 * 2**20  # bytes of one request: what is lost when it breaks off
LOOK_SECONDS: Final = 2.0  # until a replica that waits for another one looks again
STREAMS: Final = 8  # files at a time; one alone fills no network card
LATEST: Final = "latest"  # the last complete listing of its kind, for when the storage cannot be reached
ENDPOINTS: Final = ("AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")


@dataclass(frozen=True)
class Patience:
    """How long a silent storage is waited for."""

    piece_seconds: float = 60.0
    """For one piece, from request to last byte: below 280 KB/s a download counts as stalled."""
    retries: int = 5
    """Of one request, each waiting longer."""
    retry_seconds: float = 180.0
    """Of all retries of one request."""


@dataclass(frozen=True)
class Object:
    """One file of the model as the storage lists it."""

    path: str
    size: int
    etag: str | None


def download(uri: str, root: Path, say: Say, patience: Patience | None = None, load_format: str = "auto") -> Path:
    """The directory with the model's files; what is there already is not downloaded again. Raises StartError.

    Storage that cannot be reached is no error when the volume has the model: replicas restart while it is away.
    """
    place = _place(uri, root)
    say(f"asking for the files of {uri}")
    try:
        with named(uri):
            store = open_store(uri, patience or Patience())
            objects = list_objects(store, load_format)
    except StartError as error:
        return _kept(_latest(place, load_format), uri, error, say)
    if not objects:
        raise StartError("ModelNotFound", f"{uri}: there is no object below it")
    with on_volume(uri):
        return _complete(store, uri, _latest(place, load_format), objects, say)


def open_store(uri: str, patience: Patience) -> Store:
    """The storage below `uri`. Credentials, region and endpoint come from the environment (AWS_…, GOOGLE_…)."""
    scheme, _, rest = uri.partition("://")
    bucket, _, prefix = rest.partition("/")
    seconds = timedelta(seconds=patience.piece_seconds)
    client: ClientConfig = {"timeout": seconds, "connect_timeout": min(seconds, timedelta(seconds=10))}
    if os.environ.get("AWS_ALLOW_HTTP") or any(os.environ.get(name, "").startswith("http:") for name in ENDPOINTS):
        client["allow_http"] = True
    retry: RetryConfig = {
        "max_retries": patience.retries,
        "retry_timeout": timedelta(seconds=patience.retry_seconds),
    }
    kind = S3Store if scheme == "s3" else GCSStore
    return kind(bucket, prefix=prefix.strip("/") or None, client_options=client, retry_config=retry)


def list_objects(store: Store, load_format: str = "auto") -> tuple[Object, ...]:
    """Every file that an engine needs on the disk, sorted. A key that is no path below the model is refused."""
    found = [
        Object(item["path"], item["size"], item["e_tag"])
        for chunk in obstore.list(store)
        for item in chunk
        if not item["path"].endswith("/") and item["path"]
    ]
    if odd := next((one.path for one in found if ".." in PurePosixPath(one.path).parts), None):
        raise StartError("ModelNotFound", f"the key {odd!r} leads out of the model's directory", "rename the object")
    found = _without_folders(found)
    paths = tuple(one.path for one in found)
    wanted = set(without_weights(paths)) if load_format == STREAMED else set(paths) - set(unneeded(paths, load_format))
    return tuple(sorted((one for one in found if one.path in wanted), key=lambda one: one.path))


def _without_folders(found: Sequence[Object]) -> list[Object]:
    """A console's "create folder" makes an object `sub/` of no bytes, which is listed as `sub`."""
    folders = {str(parent) for one in found for parent in PurePosixPath(one.path).parents}
    if odd := next((one.path for one in found if one.size and one.path in folders), None):
        raise StartError("ModelNotFound", f"the key {odd!r} is a file and a folder", "rename the object")
    return [one for one in found if one.path not in folders]


def _place(uri: str, root: Path) -> Path:
    """Of this address at this endpoint: two buckets of one name at two servers are two."""
    endpoint = next((os.environ[name] for name in ENDPOINTS if os.environ.get(name)), "")
    address = hashlib.sha256(f"{endpoint} {uri}".encode()).hexdigest()[:12]
    return root / f"{uri.rstrip('/').rpartition('/')[2]}-{address}"


def _latest(place: Path, load_format: str) -> Path:
    """Of the load formats that list other files than usual each has its own."""
    return place / (f"{LATEST}.{load_format}" if load_format in (STREAMED, *READ) else LATEST)


def _complete(store: Store, uri: str, latest: Path, objects: Sequence[Object], say: Say) -> Path:
    place = latest.parent
    listing = json.dumps([(one.path, one.size, one.etag) for one in objects])
    whole = place / hashlib.sha256(listing.encode()).hexdigest()[:16]
    partial = whole.with_suffix(".partial")
    place.mkdir(parents=True, exist_ok=True)
    with _locked(place / "lock", partial, say):
        if not whole.is_dir():
            for old in set(place.glob("*.partial")) - {partial}:  # of a listing that is no more: room for this one
                shutil.rmtree(old)
            _fetch(store, uri, partial, objects, say)
            _sync(partial)
            partial.rename(whole)
            _sync_entries(place)
        _note(latest, whole.name)
    return whole


def _note(latest: Path, name: str) -> None:
    """Whole or not at all. The copy is as good without: a volume that is full by now is no error."""
    with suppress(OSError):
        if _noted(latest) != name:
            fresh = latest.with_name(f"{latest.name}.new")
            with fresh.open("w") as out:
                out.write(name)
                out.flush()
                os.fsync(out.fileno())
            fresh.replace(latest)


def _noted(latest: Path) -> str:
    try:
        return latest.read_text()
    except (OSError, ValueError):
        return ""


def _older(latest: Path) -> str:
    """What an image wrote that had one note for all load formats, if that copy has what this one reads."""
    name, load_format = _noted(latest.with_name(LATEST)), latest.suffix.removeprefix(".")
    fits = not (read := READ.get(load_format)) or any((latest.parent / name).rglob(read))
    return name if name and fits else ""


def _kept(latest: Path, uri: str, error: StartError, say: Say) -> Path:
    """The last complete copy, if the storage, or who gives credentials for it, only cannot be reached; otherwise the
    error again."""
    name = _noted(latest) or _older(latest)
    is_away = error.reason == "DownloadFailed" or isinstance(error, NobodyToAskError)
    if not (is_away and name and (latest.parent / name).is_dir()):
        raise error
    say(f"{uri} cannot be listed; serving the copy on the volume")
    return latest.parent / name


@contextmanager
def _locked(lock: Path, partial: Path, say: Say) -> Iterator[None]:
    """One process of all pods that mount the volume."""
    seen = -1
    while True:
        with volume_lock.opened(lock) as ours:  # anew each time: somebody may have removed the file
            if ours.take():
                yield
                return
        if (arrived := _arrived(partial)) != seen:  # only what grows is progress
            seen = arrived
            say(f"another replica downloads the model to this volume: {Bytes(arrived)}")
        time.sleep(LOOK_SECONDS)


def _fetch(store: Store, uri: str, partial: Path, objects: Sequence[Object], say: Say) -> None:
    partial.mkdir(exist_ok=True)
    total = Bytes(sum(one.size for one in objects))
    missing = total - _arrived(partial)
    if (free := shutil.disk_usage(partial).free) < missing:
        what = f"{uri}: {Bytes(missing)} are to come, the volume has room for {Bytes(free)}"
        raise StartError("DownloadFailed", what, "enlarge spec.model.cache.size or spec.resources.ephemeralStorage")
    with following(uri, total, lambda: _arrived(partial), say), ThreadPoolExecutor(STREAMS) as pool:
        try:
            list(pool.map(lambda one: _fetch_file(store, uri, one, partial / one.path), objects))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _fetch_file(store: Store, uri: str, one: Object, target: Path) -> None:
    """Piece by piece behind what is there."""
    if target.is_file():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    with part.open("ab") as out:
        # A node that fails must not leave a file that has its size and not its content: each piece is on the disk
        # before the next one, and of what is there the last one may not be.
        out.truncate(max(0, (out.tell() - 1) // PIECE * PIECE))
        while (start := out.seek(0, os.SEEK_END)) < one.size:
            out.write(_piece(store, uri, one, start))
            out.flush()
            os.fsync(out.fileno())
    part.rename(target)


def _piece(store: Store, uri: str, one: Object, start: int) -> obstore.Bytes:
    """From this byte on; of an object that has changed since the listing, the storage refuses it by its tag."""
    wanted: GetOptions = {"range": (start, min(start + PIECE, one.size)), "if_match": one.etag}
    with named(uri):
        return obstore.get(store, one.path, options=wanted).bytes()


def _sync(directory: Path) -> None:
    """Its names, and those of the directories in it, onto the disk."""
    for path in (directory, *(path for path in directory.rglob("*") if path.is_dir())):
        _sync_entries(path)


def _sync_entries(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _arrived(partial: Path) -> int:
    """Bytes on the volume, as far as can be seen: whoever downloads renames its files meanwhile, and at last the
    directory (`os.walk` passes over what has gone)."""
    sizes = 0
    for directory, _, names in os.walk(partial):
        for name in names:
            with suppress(OSError):
                sizes += Path(directory, name).stat().st_size
    return sizes
