"""docs/reference/versions.md says what is pinned and tested."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import helm
import yaml

from sglang_operator.api import API_VERSION
from sglang_operator.api.versions import versions

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reference/versions.md").read_text()
ROWS = {
    cells[0].partition(",")[0]: cells[1:]
    for line in PAGE.splitlines()
    if len(cells := [cell.strip() for cell in line.strip("|").split("|")]) == 3
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_what_goes_together() -> None:
    known = versions()
    for name, key in {"SGLang": "sglang", "Ray": "ray", "KubeRay": "kuberay", "Gateway API": "gateway_api"}.items():
        assert ROWS[name][0] == known[key], name
    assert ROWS["Kubernetes"][0] == ", ".join(known["kubernetes"])
    assert ROWS["this project"][0] == PROJECT["version"]
    assert ROWS["Helm"][0] == " and ".join(helm.VERSIONS)
    assert PROJECT["requires-python"] == f">={ROWS['Python'][0]}"


def test_what_is_taken_at_least() -> None:
    install = (ROOT / "docs/how-to/install.md").read_text()
    chart = yaml.safe_load((ROOT / "charts/sglang-operator/Chart.yaml").read_text())
    (kubernetes,) = re.findall(r"from (1\.\d+) on", ROWS["Kubernetes"][1])
    assert chart["kubeVersion"] == f">={kubernetes}.0-0"
    assert f"Kubernetes {kubernetes} or newer" in install
    (kuberay,) = re.findall(r"from ([\d.]+) on", ROWS["KubeRay"][1])
    assert f"KubeRay, from {kuberay} on" in install


def test_it_is_of_the_version_that_there_is() -> None:
    assert f"## What `{API_VERSION.partition('/')[2]}` promises" in PAGE


def test_other_pages_name_the_same() -> None:
    plugin = (ROOT / "docs/how-to/install-the-plugin.md").read_text()
    assert re.findall(r"^ARG KUBECTL=v(1\.\d+)\.\d+$", plugin, re.MULTILINE) == versions()["kubernetes"]
    carried = (ROOT / "docs/how-to/air-gapped.md").read_text()
    assert f"`quay.io/kuberay/operator:v{versions()['kuberay']}`" in carried
    assert f"kuberay-helm/ --version {versions()['kuberay']}`" in carried
