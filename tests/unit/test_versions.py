"""versions.toml is the one place for versions: everything that repeats one agrees with it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import sglang_serve
from sglang_operator.api.versions import versions
from sglang_operator.render.platform import default_images
from sglang_serve.conformance.machine import ENV_REVISION, PACKAGES

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "images" / "requirements"
DOCKERFILES = {
    "Dockerfile.cuda": "nvidia",
    "Dockerfile.rocm": "amd",
    "Dockerfile.cpu": "cpu",
    "operator/Dockerfile": "cpu",
}


def text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads(text("pyproject.toml"))["project"]
    return found


def pin(requirements: str, package: str) -> str:
    """The version after `package==`, extras aside."""
    found = re.search(rf"^{package}(?:\[[\w,]+])?==(\S+)", (REQUIREMENTS / requirements).read_text(), re.MULTILINE)
    assert found, f"{requirements} does not pin {package}"
    return found[1]


def arguments(dockerfile: str) -> dict[str, str]:
    """Build arguments that have a default."""
    return dict(re.findall(r"^ARG (\w+)=(\S+)$", text(dockerfile), re.MULTILINE))


@pytest.mark.parametrize(
    ("requirements", "package"),
    [("cpu.in", "sglang"), ("cpu.txt", "sglang"), ("cpu.in", "ray"), ("cpu.txt", "ray"), ("serve.in", "ray")],
)
def test_requirements(requirements: str, package: str) -> None:
    assert pin(requirements, package) == versions()[package]


def test_one_module_reads_them() -> None:
    package = ROOT / "operator" / "sglang_operator"
    readers = [path for path in package.rglob("*.py") if '"versions.toml"' in path.read_text(encoding="utf-8")]
    assert readers == [package / "api" / "versions.py"]


def test_lock_belongs_to_its_input() -> None:
    for line in (REQUIREMENTS / "cpu.in").read_text().splitlines():
        if match := re.match(r"([\w.-]+)(?:\[[\w,]+])?==(\S+)", line):
            assert pin("cpu.txt", match[1]) == match[2], "run `make lock`"


def test_metadata_that_replaces_sglangs_own() -> None:
    entries = tomllib.loads((REQUIREMENTS / "uv.toml").read_text())["dependency-metadata"]
    assert {one["name"]: one["version"] for one in entries}["sglang"] == versions()["sglang"]


@pytest.mark.parametrize(("dockerfile", "vendor"), DOCKERFILES.items())
def test_dockerfiles(dockerfile: str, vendor: str) -> None:
    found = arguments(dockerfile)
    assert f"{found['BASE']}:{found['BASE_TAG']}" == versions()["bases"][vendor]
    assert found["VERSION"] == project()["version"]
    if "UV" in found:
        assert f"UV_VERSION := {found['UV']}\n" in text("Makefile")


@pytest.mark.parametrize("dockerfile", sorted(DOCKERFILES.keys() - {"operator/Dockerfile"}))
def test_serving_images_know_their_revision(dockerfile: str) -> None:
    assert f"ARG REVISION=unknown\nENV {ENV_REVISION}=${{REVISION}}\n" in text(dockerfile)


def test_the_serving_package_says_the_projects_version() -> None:
    assert sglang_serve.__version__ == project()["version"]


def test_gpu_bases_have_the_pinned_sglang() -> None:
    for vendor in ("nvidia", "amd"):
        assert f":v{versions()['sglang']}" in versions()["bases"][vendor]


def test_default_images_name_what_they_hold() -> None:
    for image in default_images().values():
        assert image.endswith(f":sglang{versions()['sglang']}-ray{versions()['ray']}")


def test_table_of_engine_arguments_is_of_the_pinned_sglang() -> None:
    assert f'"{versions()["sglang"]}"' in text("operator/sglang_operator/api/engine_args.json")


def test_one_python_for_both_environments() -> None:
    assert project()["requires-python"] == ">=3.11"
    assert 'PYTHON = "3.11"' in text("hack/engine_env.py")
    assert "--python-version 3.11" in text("Makefile")


NAMES = {
    "SGLang": "sglang",
    "Ray": "ray",
    "KubeRay": "kuberay",
    "sglang:v": "sglang",
    "kuberay-helm/ --version": "kuberay",
}


def mentions(document: Path) -> Iterator[tuple[str, str]]:
    """(what, version) of every "SGLang 1.2.3" and the like."""
    pattern = rf"({'|'.join(NAMES)}) ?v?(\d+\.\d+\.\d+)\b"
    return ((NAMES[what], version) for what, version in re.findall(pattern, document.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", ["README.md", "CONTRIBUTING.md", "docs/how-to", "docs/reference", "docs/operations"])
def test_documents_name_the_pinned_versions(path: str) -> None:
    """Reports, numbers and decisions name the version of their day; everything else names today's."""
    documents = [ROOT / path] if path.endswith(".md") else sorted((ROOT / path).rglob("*.md"))
    for document in documents:
        for what, version in mentions(document):
            assert version == versions()[what], f"{document.relative_to(ROOT)} says {what} {version}"


@pytest.mark.parametrize(
    "path",
    [
        *("README.md", "docs/how-to/install.md"),
        *("charts/sglang-operator/README.md", "charts/sglang-operator/templates/NOTES.txt"),
    ],
)
def test_the_command_that_installs_kuberay_has_the_pinned_one(path: str) -> None:
    assert text(path).count(f"kuberay-helm/ --version {versions()['kuberay']} ") == 1


@pytest.mark.parametrize(
    ("path", "before"),
    [("README.md", "Kubernetes "), ("docs/how-to/install.md", "tested with |API server of Kubernetes ")],
)
def test_documents_name_the_tested_kubernetes(path: str, before: str) -> None:
    found = re.findall(rf"(?:{before})(1\.\d+)", text(path))
    assert found
    assert set(found) == set(versions()["kubernetes"])


@pytest.mark.parametrize(
    ("tool", "module"),
    [("kuberay", "github.com/ray-project/kuberay/ray-operator"), ("kubernetes", "k8s.io/kubernetes")],
)
def test_the_cluster_of_the_tests_is_the_tested_one(tool: str, module: str) -> None:
    built = re.search(rf"^\s*(?:require )?{module} v(\S+)", text(f"hack/cluster/tools/{tool}/go.mod"), re.MULTILINE)
    assert built
    pinned = versions()[tool]
    assert built[1] == pinned or built[1].rpartition(".")[0] in pinned


def test_the_chart_names_the_tested_kubernetes() -> None:
    assert re.findall(r"Tested with (1\.\d+)", text("charts/sglang-operator/Chart.yaml")) == versions()["kubernetes"]


def test_the_operators_image_is_pushed_under_the_name_that_the_chart_asks_for() -> None:
    image = yaml.safe_load(text("charts/sglang-operator/values.yaml"))["image"]
    assert image["tag"] == ""
    name = f"{image['repository']}:{project()['version']}"
    for command in ("docker build -f operator/Dockerfile -t", "docker push"):
        assert f"$ {command} registry.example.com/{name}" in text("docs/how-to/build-images.md")
    assert f"`{name}`" in text("docs/how-to/build-images.md")


def test_conformance_reports_the_pinned_packages() -> None:
    assert {"sglang", "ray"} <= set(PACKAGES)
