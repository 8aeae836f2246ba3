"""What guards the base of the GPU images, against reports of pip that a build had better not carry out."""

from __future__ import annotations

from typing import Any

import pytest
from unit.scripts import load

add_serve = load("images/setup/add_serve.py")

BASE = {"torch": "2.11.0+rocm7.2.4", "pytorch-triton-rocm": "3.7.0", "starlette": "0.50.0"}


def report(**versions: str) -> dict[str, Any]:
    """As `pip install --report` writes it, cut to what is read."""
    return {
        "version": "1",
        "install": [
            {
                "metadata": {"name": name, "version": version},
                "download_info": {"archive_info": {"hashes": {"sha256": "0" * 64}}},
            }
            for name, version in versions.items()
        ],
    }


@pytest.mark.parametrize("planned", [{"torch": "2.11.0"}, {"ray": "2.60.0", "PyTorch_Triton.ROCm": "3.7.1"}])
def test_another_build_of_what_the_base_has_is_refused(planned: dict[str, str]) -> None:
    with pytest.raises(add_serve.BaseChanged, match=r"torch.* -> "):
        add_serve.require_unchanged(BASE, add_serve.planned(report(**planned)))


def test_new_packages_and_a_newer_web_framework_are_welcome() -> None:
    add_serve.require_unchanged(BASE, add_serve.planned(report(ray="2.60.0", starlette="1.0.1")))


def test_a_package_that_vanished_counts_as_changed() -> None:
    with pytest.raises(add_serve.BaseChanged, match=r"torch .* -> removed"):
        add_serve.require_unchanged(BASE, {**BASE, "torch": "removed"})


def test_all_of_the_base_but_the_web_framework_is_pinned() -> None:
    assert add_serve.constraints(BASE) == "pytorch-triton-rocm==3.7.0\ntorch==2.11.0+rocm7.2.4\n"


def test_what_was_checked_is_installed_by_its_hash() -> None:
    assert add_serve.locked(report(Ray="2.60.0")) == f"ray==2.60.0 --hash=sha256:{'0' * 64}\n"


def test_packages_of_this_environment_are_found() -> None:
    assert add_serve.installed()["pytest"] == pytest.__version__
