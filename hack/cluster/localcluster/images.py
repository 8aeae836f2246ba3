"""Builds the images that pods need with buildah, and keeps them; root only, no daemon, no registry.

The Dockerfiles are the project's own, on a Debian made from packages. Layers are kept, so a change of our Python files
costs seconds, and an image that has not changed nothing.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import yaml

from localcluster.nodefiles import PAUSE
from localcluster.say import say
from localcluster.shell import Broken, run
from localcluster.tools import cache

ROOT: Final = Path(__file__).resolve().parents[3]
FILES: Final = Path(__file__).resolve().parents[1] / "images"
CHART: Final = ROOT / "charts" / "sglang-operator"
DEBIAN: Final = "localhost/debian:bookworm"
SUITE: Final = "bookworm"  # of the Debian that our Dockerfiles are FROM
BUILD_SECONDS: Final = 1800.0
BLOBS: Final = "blobs/sha256"  # in an OCI layout


@dataclass(frozen=True)
class Image:
    """An image under the name by which pods ask for it."""

    name: str
    identity: str
    """Changes with its content."""
    layout: Path
    """An OCI layout with it, layers not compressed: they are never sent anywhere."""

    @contextmanager
    def archive(self, but: Collection[str] = ()) -> Iterator[IO[bytes]]:
        """The layout as a tar stream, so that it never lies on the disk twice; without the blobs of these digests."""
        left_out = [f"--exclude=./{BLOBS}/{digest}" for digest in but]
        command = ["tar", "-C", str(self.layout), *left_out, "-cf", "-", "."]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as packing:
            assert packing.stdout  # noqa: S101 - it was asked for
            yield packing.stdout


def serving_name() -> str:
    """What the renderer emits for endpoints with `vendor: cpu`."""
    from sglang_operator.render.platform import default_images  # noqa: PLC0415 - the fast flavour does without

    return default_images()["cpu"]


def operator_name() -> str:
    """What the chart emits."""
    image = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))["image"]
    version = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))["appVersion"]
    return f"{image['registry']}/{image['repository']}:{image['tag'] or version}"


def pause() -> Image:
    """What holds a pod's network."""

    def make() -> None:
        with _scratch() as context:
            shutil.copy("/bin/busybox", context / "busybox")
            _bud(PAUSE, FILES / "pause.Dockerfile", context)

    return _built(PAUSE, make)


def serving() -> Image:
    """Dockerfile.cpu."""
    return _built(serving_name(), lambda: _project(serving_name(), ROOT / "Dockerfile.cpu"))


def operator() -> Image:
    """operator/Dockerfile."""
    return _built(operator_name(), lambda: _project(operator_name(), ROOT / "operator" / "Dockerfile"))


def release() -> None:
    """Remove what a killed build has left: its container and its mounts. Does nothing while another process builds."""
    if not (home() / "storage").is_dir():
        return
    with locked(wait=False) as alone:
        if alone:
            remove_leftovers()


def _project(name: str, dockerfile: Path) -> None:
    """Build one of our Dockerfiles, with uv's cache of this machine."""
    make_debian()
    uv = Path(os.environ.get("UV_CACHE_DIR", Path.home() / ".cache" / "uv"))
    uv.mkdir(parents=True, exist_ok=True)
    base, _, tag = DEBIAN.partition(":")
    _bud(name, dockerfile, ROOT, f"--build-arg=BASE={base}", f"--build-arg=BASE_TAG={tag}", f"--volume={uv}:/uv-cache")


def make_debian() -> None:
    """DEBIAN from packages, unless it is there; it trusts the certificates that this machine trusts."""
    if _identity(DEBIAN):
        return
    say(f"building a Debian {SUITE} from packages")
    with _scratch() as context:
        rootfs = str(context / "rootfs.tar")
        packages = "--include=ca-certificates"
        run("mmdebstrap", "--quiet", "--variant=minbase", packages, SUITE, rootfs, seconds=BUILD_SECONDS)
        trusted = ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt"
        shutil.copy(trusted, context / "trusted.pem")
        _bud(DEBIAN, FILES / "debian.Dockerfile", context)


def _built(name: str, make: Callable[[], None]) -> Image:
    """The image `name` as `make` builds it now; written out only if that has changed it."""
    with locked():
        return _built_alone(name, make)


def _built_alone(name: str, make: Callable[[], None]) -> Image:
    began = time.monotonic()
    say(f"image {name}: building" + ("" if _identity(name) else " (minutes the first time)"))
    remove_leftovers()
    with replaced(name):
        make()
    identity = _identity(name)
    layout = home() / "layouts" / re.sub(r"[/:]", "_", name) / identity.removeprefix("sha256:")
    if not layout.is_dir():
        partial = taken_over(layout)
        _copy(name, partial)
        prune(partial)
        partial.rename(layout)
    say(f"image {name}: built in {time.monotonic() - began:.0f} s")
    return Image(name, identity, layout)


def _copy(name: str, layout: Path) -> None:
    """By skopeo: what buildah pushes into a layout is always compressed, which takes minutes, and each time anew."""
    store = f"containers-storage:[overlay@{home()}/storage+{home()}/run]"
    how = ("copy", "--quiet", "--insecure-policy", "--dest-oci-accept-uncompressed-layers")
    run("skopeo", *how, f"{store}{name}", f"oci:{layout}:{name}", seconds=BUILD_SECONDS, environment=_environment())


def taken_over(layout: Path) -> Path:
    """Where `layout` is written: over the one before, whose large layers are the same. What is broken off there, or was
    begun by a killed build, is a layout all the same: each blob is put into its place when it is whole."""
    layout.parent.mkdir(parents=True, exist_ok=True)
    partial = layout.with_suffix(".partial")
    newest, *older = sorted(layout.parent.iterdir(), key=lambda one: one.stat().st_mtime, reverse=True) or [partial]
    for one in older:
        shutil.rmtree(one)
    if newest.is_dir():
        newest.rename(partial)
        (partial / "index.json").unlink(missing_ok=True)  # else the image before stays in it, without a name
    return partial


def prune(layout: Path) -> None:
    """Remove the blobs that only the image before had."""
    index = json.loads((layout / "index.json").read_text(encoding="utf-8"))
    wanted = {digest for manifest in index["manifests"] for digest in _digests(layout, manifest["digest"])}
    for blob in (layout / BLOBS).iterdir():
        if blob.name not in wanted:
            blob.unlink()


def _digests(layout: Path, manifest: str) -> Iterator[str]:
    """Of a manifest, its config and its layers, without "sha256:"."""
    name = manifest.removeprefix("sha256:")
    found = json.loads((layout / BLOBS / name).read_text(encoding="utf-8"))
    yield name
    yield from (part["digest"].removeprefix("sha256:") for part in (found["config"], *found["layers"]))


def _bud(name: str, dockerfile: Path, context: Path, *options: str) -> None:
    how = ("--isolation=chroot", "--network=host", "--layers", "--format=docker", f"--tag={name}", *options)
    _buildah("bud", *how, f"--file={dockerfile}", str(context))


def _identity(name: str) -> str:
    """The image's id, empty if there is none."""
    try:
        return _buildah("inspect", "--type=image", "--format={{.FromImageID}}", name).strip()
    except Broken:
        return ""


def _buildah(*arguments: str) -> str:
    return run(*buildah(), *arguments, seconds=BUILD_SECONDS, environment=_environment())


def _environment() -> dict[str, str]:
    return {"TMPDIR": str(scratch())}


def buildah() -> Sequence[str]:
    """buildah with the storage that is kept here."""
    return ("buildah", f"--root={home()}/storage", f"--runroot={home()}/run", "--storage-driver=overlay")


def scratch() -> Path:
    """Where cache mounts and layers on their way lie, as TMPDIR of buildah."""
    made = home() / "tmp"
    made.mkdir(parents=True, exist_ok=True)
    return made


def remove_leftovers() -> None:
    """Containers and mounts."""
    _buildah("rm", "--all")
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    for mount in reversed([mount for mount in mounts if mount.startswith(f"{home()}/")]):
        run("umount", "--lazy", mount)


@contextmanager
def replaced(name: str) -> Iterator[None]:
    """The body builds `name`. The image that had this name before goes, with the layers that only it had."""
    before = _identity(name)
    yield
    if before and before != _identity(name):
        with suppress(Broken):  # another image stands on it, and takes it along when it goes
            _buildah("rmi", before)


@contextmanager
def locked(*, wait: bool = True) -> Iterator[bool]:
    """Whether nobody else builds; with `wait`, once nobody does."""
    home().mkdir(parents=True, exist_ok=True)
    with (home() / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def home() -> Path:
    """Where everything of images is kept."""
    return cache() / "images"


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="localcluster-") as made:
        yield Path(made)
