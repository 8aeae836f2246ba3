"""Validates rendered objects as an API server with strict field validation would, offline.

Kubernetes' own kinds: the schemas that kubernetes-validate ships. RayService and HTTPRoute: the CRDs of the very
versions that we name, out of their Go modules, pinned by hash and kept in Go's module cache.
"""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

from sglang_operator.render.platform import versions

# apiVersion and kind -> where its CRD is: Go module, key of versions.toml, hash of the module, path in it.
CRDS = {
    ("ray.io/v1", "RayService"): (
        "github.com/ray-project/kuberay/ray-operator",
        "kuberay",
        "h1:IMtV0QW8AxGp4/CbPLd/olXBBxpUNQQr1n4Mu59khl4=",
        "config/crd/bases/ray.io_rayservices.yaml",
    ),
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): (
        "sigs.k8s.io/gateway-api",
        "gateway_api",
        "h1:ZwlNM6zOHq0h3WUX2gfByPs2yAEsy/EenYJB78jpQfQ=",
        "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml",
    ),
}


def errors(rendered: Mapping[str, Any]) -> list[str]:
    """What is wrong with `rendered`: unknown fields, wrong types, missing ones. Empty if nothing is."""
    if (rendered["apiVersion"], rendered["kind"]) in CRDS:
        validator = _crd_validator(rendered["apiVersion"], rendered["kind"])
        return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(rendered)]
    return [problem for version in versions()["kubernetes"] for problem in _core_errors(rendered, version)]


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
    module, version, checksum, path = CRDS[api_version, kind]
    crd = yaml.load((module_dir(module, f"v{versions()[version]}", checksum) / path).read_text(), yaml.CSafeLoader)
    served = {one["name"]: one["schema"]["openAPIV3Schema"] for one in crd["spec"]["versions"]}
    return jsonschema.Draft7Validator(_strict(served[api_version.rpartition("/")[2]], root=True))


def module_dir(module: str, version: str, checksum: str) -> Path:
    """Where Go keeps the unpacked module; downloaded if it is not there yet. Its content has this hash."""
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    assert go, "the schemas of RayService and HTTPRoute come from Go modules: install Go (https://go.dev/dl)"
    with tempfile.TemporaryDirectory() as outside_of_any_module:
        command = [go, "mod", "download", "-json", f"{module}@{version}"]
        done = subprocess.run(command, cwd=outside_of_any_module, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    answer = json.loads(done.stdout)
    assert answer["Sum"] == checksum, f"{module}@{version} has hash {answer['Sum']}: put it into {__file__}"
    return Path(answer["Dir"])


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
