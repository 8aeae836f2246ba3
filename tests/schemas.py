"""Validates rendered objects as an API server with strict field validation would, offline.

Kubernetes' own kinds: the schemas that kubernetes-validate ships. RayService and HTTPRoute: the CRDs of the very
versions that we name, out of their Go modules (a Go proxy serves them as ZIP files: no Go needed), pinned by hash and
kept in this project's cache.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import urllib.request
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

from sglang_operator.api.versions import versions

TRIES = 4
SILENT_SECONDS = 25  # all of them within the time-out of a test
# apiVersion and kind -> where its CRD is: Go module, key of versions.toml, path in it, SHA-256 of that file.
CRDS = {
    ("ray.io/v1", "RayService"): (
        "github.com/ray-project/kuberay/ray-operator",
        "kuberay",
        "config/crd/bases/ray.io_rayservices.yaml",
        "95c639acc20ecc3cfa425d5ad0f8a7c152a336bc16d2e0deec17b62005e67fda",
    ),
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): (
        "sigs.k8s.io/gateway-api",
        "gateway_api",
        "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml",
        "c2539410dec72b793ef840f484c19d13b48210074ec801b730e9fce2c5fc825c",
    ),
}


def errors(rendered: Mapping[str, Any]) -> list[str]:
    """What is wrong with `rendered`: unknown fields, wrong types, missing ones. Empty if nothing is."""
    if (rendered["apiVersion"], rendered["kind"]) in CRDS:
        validator = _crd_validator(rendered["apiVersion"], rendered["kind"])
        return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(rendered)]
    return [problem for version in versions()["kubernetes"] for problem in _core_errors(rendered, version)]


def fields_of_kind(name: str) -> list[str]:
    """The fields of a part of Kubernetes' API, as `io.k8s.api.core.v1.PodSpec`, in the newest tested version."""
    directory = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
    found = directory / f"v{versions()['kubernetes'][-1]}.0-local-strict" / "_definitions.json"
    return list(json.loads(found.read_text())["$defs"][name]["properties"])


def _core_errors(rendered: Mapping[str, Any], version: str) -> list[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the library's own
            kubernetes_validate.validate(rendered, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{error.json_path}: {error.message}"]
    return []


@functools.cache
def _crd_validator(api_version: str, kind: str) -> jsonschema.Draft7Validator:
    module, version, path, sha256 = CRDS[api_version, kind]
    crd = yaml.load(module_file(f"{module}@v{versions()[version]}", path, sha256), yaml.CSafeLoader)
    served = {one["name"]: one["schema"]["openAPIV3Schema"] for one in crd["spec"]["versions"]}
    return jsonschema.Draft7Validator(_strict(served[api_version.rpartition("/")[2]], root=True))


def module_file(module: str, path: str, sha256: str) -> bytes:
    """A file of a Go module such as "example.com/m@v1.2.3", with this hash; downloaded if it is not in the cache."""
    root = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    cached = root / "sglang-operator" / "schemas" / sha256
    if not cached.is_file():
        content = _download(module, path)
        found = hashlib.sha256(content).hexdigest()
        assert found == sha256, f"{path} of {module} has hash {found}: put it into {__file__}"
        cached.parent.mkdir(parents=True, exist_ok=True)
        partial = cached.with_suffix(f".{os.getpid()}")
        partial.write_bytes(content)
        partial.rename(cached)
    return cached.read_bytes()


def _download(module: str, path: str) -> bytes:
    name, _, version = module.partition("@")
    proxy = os.environ.get("GOPROXY", "").partition(",")[0] or "https://proxy.golang.org"
    archive = zipfile.ZipFile(io.BytesIO(_get(f"{proxy}/{name}/@v/{version}.zip")))
    return archive.read(f"{module}/{path}")


def _get(url: str) -> bytes:
    """Asked again after a failure: a registry may be busy for a moment, and the tests of an hour wait for it."""
    for left in reversed(range(TRIES)):
        try:
            with urllib.request.urlopen(url, timeout=SILENT_SECONDS) as reply:
                content: bytes = reply.read()
                return content
        except OSError:
            if not left:
                raise
    raise AssertionError


def _strict(schema: Any, *, root: bool = False) -> Any:
    """The schema with unknown fields forbidden wherever a CRD would prune them."""
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: _strict_part(key, value) for key, value in schema.items()}
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        strict["additionalProperties"] = False
    if root:
        strict["properties"]["metadata"] = {"type": "object"}  # validated by every API server, not by the CRD
    if schema.get("x-kubernetes-int-or-string"):
        strict.pop("type", None)
    return strict


def _strict_part(key: str, value: Any) -> Any:
    if key == "properties":
        return {name: _strict(part) for name, part in value.items()}
    if key in ("default", "example", "enum", "required"):
        return value
    return _strict(value)
