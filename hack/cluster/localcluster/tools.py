"""Builds the programs of a cluster from pinned Go modules, each when it is first asked for, and keeps them.

They lie in the cache under a digest of what pins them, so that clones share them and a changed pin makes its own anew.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import yaml

from localcluster.missing import Missing, require
from localcluster.say import say

MODULES: Final = Path(__file__).resolve().parents[1] / "tools"
KUBERNETES: Final = "kubernetes"
KUBERAY: Final = "kuberay"
COREDNS: Final = "coredns"
KUBE_ROUTER: Final = "kuberouter"

# Program -> (folder of the go.mod that pins it, package). KubeRay does not compile with the client-go of the newest
# Kubernetes, so each go.mod keeps the dependencies that its programs were released with.
PROGRAMS: Final = {
    "etcd": (KUBERNETES, "./etcd"),
    "kube-apiserver": (KUBERNETES, "k8s.io/kubernetes/cmd/kube-apiserver"),
    "kube-controller-manager": (KUBERNETES, "k8s.io/kubernetes/cmd/kube-controller-manager"),
    "kube-scheduler": (KUBERNETES, "k8s.io/kubernetes/cmd/kube-scheduler"),
    "kubectl": (KUBERNETES, "k8s.io/kubernetes/cmd/kubectl"),
    "kubelet": (KUBERNETES, "k8s.io/kubernetes/cmd/kubelet"),
    "kube-proxy": (KUBERNETES, "k8s.io/kubernetes/cmd/kube-proxy"),
    "ray-operator": (KUBERAY, "github.com/ray-project/kuberay/ray-operator"),
    "coredns": (COREDNS, "./coredns"),
    "kube-router": (KUBE_ROUTER, "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router"),
}
# CRDs that come with modules: the name under which we keep them -> (folder, module, path in the module).
CRDS: Final = {
    "ray": (KUBERAY, "github.com/ray-project/kuberay/ray-operator", "config/crd/bases"),
    "gateway-api": (KUBERAY, "sigs.k8s.io/gateway-api", "config/crd/standard"),
}
# KubeRay wants these kinds to exist, and nothing here uses them: without their schemas, half of all bytes, the API
# server is ready earlier.
BARE: Final = ("ray.io_rayjobs.yaml", "ray.io_raycronjobs.yaml")
ANYTHING: Final = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
STILL_SECONDS: Final = 30
GO: Final = "install Go 1.26 or newer from https://go.dev/dl and put it on the PATH"
REPORT_LINES: Final = 20


def cache() -> Path:
    """Where everything of local clusters is kept; XDG_CACHE_HOME moves it."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sglang-operator" / "cluster"


@functools.cache
def directory(folder: str = KUBERNETES) -> Path:
    """Where the programs that the go.mod in `folder` pins lie."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in ("go.*", "*/*.go") for path in (MODULES / folder).glob(pattern)):
        digest.update(path.read_bytes())
    return cache() / f"bin-{folder}-{digest.hexdigest()[:12]}"


def program(name: str) -> Path:
    """The program `name`, which `build` has made."""
    return directory(PROGRAMS[name][0]) / name


def version(folder: str, module: str) -> str:
    """What the go.mod in `folder` pins `module` to: v1.2.3."""
    found = re.search(rf"\b{re.escape(module)} (v\S+)", (MODULES / folder / "go.mod").read_text(encoding="utf-8"))
    if not found:
        raise LookupError(f"hack/cluster/tools/{folder}/go.mod does not name {module}")
    return found[1]


def build(names: Sequence[str]) -> None:
    """Make sure that the programs `names` are there. Processes that call this at once wait for one another."""
    if not _absent(names):
        return
    require(["go"], GO)
    for folder in dict.fromkeys(PROGRAMS[name][0] for name in names):
        with _lock(folder):
            if absent := [name for name in _absent(names) if PROGRAMS[name][0] == folder]:
                _build_from(folder, absent)


def crds(name: str) -> Path:
    """The folder with the CRDs `name`."""
    folder = CRDS[name][0]
    kept = directory(folder) / "crds" / name
    if not kept.is_dir():
        require(["go"], GO)
        with _lock(folder):
            if not kept.is_dir():
                _copy_crds(name, kept)
    return kept


def _absent(names: Sequence[str]) -> list[str]:
    return [name for name in names if not program(name).is_file()]


@contextmanager
def _lock(folder: str) -> Iterator[None]:
    directory(folder).mkdir(parents=True, exist_ok=True)
    with (directory(folder) / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build_from(folder: str, names: Sequence[str]) -> None:
    """One `go build` for all programs of a go.mod, so that what they share is compiled once."""
    say(f"building {', '.join(names)} from source (minutes the first time, then kept in {directory(folder)})")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=".building-", dir=directory(folder)) as scratch:
        _go(folder, ["build", *_flags(folder), "-o", f"{scratch}/", *(PROGRAMS[name][1] for name in names)])
        for name in names:  # a rename: an interrupted build is never taken for a whole one
            (Path(scratch) / name).rename(program(name))
    say(f"built {', '.join(names)} in {time.monotonic() - began:.0f} s")


def _flags(folder: str) -> list[str]:
    """No debug information, which costs a tenth of the time; and the version that Kubernetes' own build would set."""
    linker = "-s -w"
    if folder == KUBERNETES:
        number = version(KUBERNETES, "k8s.io/kubernetes")
        major, minor, _ = number.removeprefix("v").split(".")
        values = {"gitVersion": number, "gitMajor": major, "gitMinor": minor}
        linker += "".join(f" -X k8s.io/component-base/version.{key}={value}" for key, value in values.items())
    return ["-buildvcs=false", "-gcflags=all=-dwarf=false", f"-ldflags={linker}"]


def _go(folder: str, arguments: Sequence[str]) -> str:
    """Run go in `folder`, say now and then that it still runs, return what it printed."""
    environment = {"GOTOOLCHAIN": "local", **os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}
    began = time.monotonic()
    with subprocess.Popen(
        ["go", *arguments],
        cwd=MODULES / folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as going:
        while True:
            try:
                printed, complaints = going.communicate(timeout=STILL_SECONDS)
                break
            except subprocess.TimeoutExpired:
                say(f"… still building, {time.monotonic() - began:.0f} s")
    if going.returncode:
        raise Missing(_failure(folder, arguments, complaints))
    return printed


def _failure(folder: str, arguments: Sequence[str], complaints: str) -> str:
    end = "\n".join(complaints.splitlines()[-REPORT_LINES:])
    hint = "it takes modules from $GOPROXY (`go env GOPROXY`) and needs the Go version that go.mod names"
    return f"`go {arguments[0]}` in hack/cluster/tools/{folder} failed; {hint}:\n{end}"


def _copy_crds(name: str, kept: Path) -> None:
    folder, module, path = CRDS[name]
    found = json.loads(_go(folder, ["mod", "download", "-json", f"{module}@{version(folder, module)}"]))
    partial = kept.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for crd in sorted((Path(found["Dir"]) / path).glob("*.yaml")):
        if crd.name != "kustomization.yaml":
            text = crd.read_text(encoding="utf-8")
            (partial / crd.name).write_text(_bare(text) if crd.name in BARE else text, encoding="utf-8")
    partial.rename(kept)


def _bare(crd: str) -> str:
    """The CRD with a schema that takes anything."""
    content = yaml.load(crd, yaml.CSafeLoader)
    for served in content["spec"]["versions"]:
        served["schema"]["openAPIV3Schema"] = ANYTHING
    return str(yaml.safe_dump(content))
