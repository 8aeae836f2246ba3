"""buildah with the storage of `make cluster`: what has not changed is not built again. No daemon, no registry."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from localcluster import images

ROOT = Path(__file__).resolve().parents[2]
BUILD_SECONDS = 1200  # the CPU image takes four minutes on two idle cores
RUN_SECONDS = 300
OPEN_FILES = "nofile=16384:16384"  # HAProxy needs 10 000; container runtimes give more, a chroot gets 1024


class BuildFailed(AssertionError):  # noqa: N818 - what happened
    """A build or a command in a container ended with an error; the text has the end of its output."""


class Builder:
    """Builds images and runs commands in them, as root, in chroots."""

    def build(self, tag: str, dockerfile: Path, context: Path = ROOT, *, base: str = "", volume: str = "") -> str:
        """Build `dockerfile` FROM the image `base` as localhost/`tag`:latest, and return that name."""
        repository, _, base_tag = base.rpartition(":")
        options = ["--build-arg", f"BASE={repository}", "--build-arg", f"BASE_TAG={base_tag}"] if base else []
        volumes = ["--volume", volume] if volume else []
        image = f"localhost/{tag}:latest"
        how = ("--isolation", "chroot", "--network", "host", "--layers", "--format", "docker", "--tag", image)
        with images.replaced(image):
            files = ("--file", str(dockerfile), str(context))
            self._run("bud", *how, *options, *volumes, *files, seconds=BUILD_SECONDS)
        return image

    def run(self, image: str, *command: str, volume: str = "", seconds: float = RUN_SECONDS) -> str:
        """What `command` prints in a fresh container of `image`, as the image's user and with its environment."""
        container = self._run("from", "--ulimit", OPEN_FILES, "--pull-never", image).strip()
        volumes = ["--volume", volume] if volume else []
        try:
            return self._run("run", "--isolation", "chroot", *volumes, container, "--", *command, seconds=seconds)
        finally:
            self._run("rm", container)

    def config(self, image: str) -> dict[str, Any]:
        """The image's configuration, as OCI defines it: `User`, `Labels`, `Env`, …"""
        inspected: dict[str, Any] = json.loads(self._run("inspect", "--type", "image", image))
        config: dict[str, Any] = inspected["OCIv1"]["config"]
        return config

    def _run(self, *arguments: str, seconds: float = RUN_SECONDS) -> str:
        done = subprocess.run(
            [*images.buildah(), *arguments],
            env={**os.environ, "TMPDIR": str(images.scratch())},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if done.returncode:
            raise BuildFailed(f"buildah {' '.join(arguments)}\n{done.stdout[-8000:]}\n{done.stderr[-4000:]}")
        return done.stdout
