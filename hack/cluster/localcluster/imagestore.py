"""A containerd's storage with our images, made once. Nodes start with a copy by hard links: in seconds, without disk.

Blobs and layers are never changed once they are written, so nodes can share them; the databases beside them are copied.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from localcluster.images import BLOBS, Image, home, locked
from localcluster.processes import Process
from localcluster.say import step
from localcluster.shell import Broken, run

READY_SECONDS: Final = 120.0
IMPORT_SECONDS: Final = 1800.0
DATABASES: Final = "io.containerd.*/*.db"
CONTAINERD: Final = """\
version = 2
root = "{root}"
state = "{state}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{state}/containerd.sock"
"""


def prepare(wanted: Sequence[Image]) -> Path:
    """The storage that has just these images. An image that changed is brought into a copy of the storage before."""
    names = {image.name: image.identity for image in wanted}
    key = hashlib.sha256(json.dumps(names, sort_keys=True).encode()).hexdigest()[:12]
    stores = home() / "stores"
    with locked():
        if not (stores / key).is_dir():
            before = sorted(stores.glob("[0-9a-f]*"))
            partial = stores / ".partial"
            shutil.rmtree(partial, ignore_errors=True)
            stores.mkdir(parents=True, exist_ok=True)
            clone(before[0], partial) if before else partial.mkdir()
            with _containerd(partial) as ctr:
                bring(wanted, partial, ctr)
            partial.rename(stores / key)
            for old in before:
                shutil.rmtree(old)
    return stores / key


def clone(store: Path, target: Path) -> None:
    """The same storage for another containerd."""
    partial = target.with_name(f"{target.name}.copying")
    shutil.rmtree(partial, ignore_errors=True)
    run("cp", "--archive", "--link", str(store), str(partial), seconds=IMPORT_SECONDS)
    for database in partial.glob(DATABASES):
        own = database.with_suffix(".own")
        shutil.copy2(database, own)
        own.rename(database)
    partial.rename(target)


def bring(images: Sequence[Image], store: Path, ctr: Sequence[str]) -> None:
    """Import those of `images` that the storage does not have, by its containerd."""
    for image in images:
        if contents(store).get(image.name) != image.identity:
            with step(f"image {image.name}: unpacked"):
                try:
                    _import(image, ctr, _blobs(store))
                except Broken:  # its collector took a layer that the image before had too, between load and unpacking
                    _import(image, ctr)
            record(store, image)


def _import(image: Image, ctr: Sequence[str], there: Collection[str] = ()) -> None:
    """Gigabytes of layers that are `there` already are not read again."""
    with image.archive(but=there) as archive:
        run(*ctr, "images", "import", "-", source=archive, seconds=IMPORT_SECONDS)


def _blobs(store: Path) -> list[str]:
    return [blob.name for blob in store.glob(f"io.containerd.content.v1.content/{BLOBS}/*")]


def contents(store: Path) -> dict[str, str]:
    """Name and identity of the images in a storage."""
    listed = store / "images.json"
    found: dict[str, str] = json.loads(listed.read_text(encoding="utf-8")) if listed.is_file() else {}
    return found


def record(store: Path, image: Image) -> None:
    """Note that the storage has this image now. A new file: the old one may be shared by hard links."""
    listed = store / "images.json"
    fresh = store / "images.json.new"
    fresh.write_text(json.dumps({**contents(store), image.name: image.identity}), encoding="utf-8")
    fresh.rename(listed)


@contextmanager
def _containerd(store: Path) -> Iterator[Sequence[str]]:
    """A containerd on that storage, with mounts that nobody else sees; and how to call its client."""
    with tempfile.TemporaryDirectory(prefix="localcluster-") as made:
        state = Path(made)
        config = state / "config.toml"
        config.write_text(CONTAINERD.format(root=store, state=state), encoding="utf-8")
        alone = ["unshare", "--mount", "--propagation=private", "--", "containerd", f"--config={config}"]
        process = Process("containerd", alone, state)
        ctr = ("ctr", f"--address={state}/containerd.sock", "--namespace=k8s.io")
        process.start()
        try:
            process.wait_for(lambda: _answers(ctr), READY_SECONDS)
            yield ctr
        finally:
            process.stop()


def _answers(ctr: Sequence[str]) -> bool:
    try:
        run(*ctr, "version")
    except Broken:
        return False
    return True
