"""Adds Ray Serve to an image that has SGLang, and ends the build if anything of the base would change.

    python3 add_serve.py serve.in /usr/share/sglang-serve

Runs in the build of Dockerfile.cuda and Dockerfile.rocm, as root, with the base's own Python; standard library only.
What the base has becomes pip's constraints; pip's plan is checked before a file is touched; then that plan and nothing
else is installed, by its hashes; and the result is compared with what was there. The plan stays in the image.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

MAY_RISE = frozenset({"aiohttp", "fastapi", "starlette", "uvicorn"})
"""Ray Serve asks for newer ones than an older base may have, and nothing compiled is built against them."""

Versions = Mapping[str, str]


class BaseChanged(Exception):  # noqa: N818 - what it would be
    """The installation would replace packages of the base."""


def canonical(name: str) -> str:
    """The name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed() -> dict[str, str]:
    """Every distribution that this Python can import, by canonical name."""
    return {canonical(found.name): found.version for found in metadata.distributions(path=sys.path)}


def constraints(base: Versions) -> str:
    """Lines for pip that pin all of the base but MAY_RISE. `pip freeze` would name files and repositories instead."""
    return "".join(f"{name}=={version}\n" for name, version in sorted(base.items()) if name not in MAY_RISE)


def require_unchanged(base: Versions, wanted: Versions) -> None:
    """Raise BaseChanged if `wanted` has another version of anything that `base` has, MAY_RISE aside."""
    changed = [
        f"{name} {base[name]} -> {version}"
        for name, version in sorted(wanted.items())
        if base.get(name, version) != version and name not in MAY_RISE
    ]
    if changed:
        raise BaseChanged(f"would replace packages of the base image: {', '.join(changed)}")


def planned(report: Mapping[str, Any]) -> dict[str, str]:
    """What a report of pip (`--report`, format 1) installs, by canonical name."""
    found = (entry["metadata"] for entry in report["install"])
    return {canonical(entry["name"]): entry["version"] for entry in found}


def locked(report: Mapping[str, Any]) -> str:
    """The report as requirements with hashes: what was checked is what gets installed."""
    lines = []
    for entry in report["install"]:
        name, version = canonical(entry["metadata"]["name"]), entry["metadata"]["version"]
        digest = entry["download_info"]["archive_info"]["hashes"]["sha256"]
        lines.append(f"{name}=={version} --hash=sha256:{digest}\n")
    return "".join(lines)


def pip_install(*arguments: str | Path) -> None:
    """A ROCm base's `PIP_CONSTRAINT` stays in force; Ubuntu's mark on its own Python is meant for users, not images."""
    command = [sys.executable, "-m", "pip", "install", "--no-cache-dir", "--root-user-action=ignore", *arguments]
    subprocess.run(command, check=True, env={**os.environ, "PIP_BREAK_SYSTEM_PACKAGES": "1"})


def plan(requirements: Path, base: Versions, scratch: Path, target: Path) -> Mapping[str, Any]:
    """pip's report of what it would install beside `base`, also written to `target`."""
    pinned = scratch / "base.txt"
    pinned.write_text(constraints(base))
    pip_install("--dry-run", "--quiet", "--report", target, "--constraint", pinned, "--requirement", requirements)
    report: Mapping[str, Any] = json.loads(target.read_text())
    return report


def add(requirements: Path, target: Path) -> None:
    """Plan, check, install, check again. Raises BaseChanged, or CalledProcessError with pip's own words above it."""
    base = installed()
    with tempfile.TemporaryDirectory() as scratch:
        report = plan(requirements, base, Path(scratch), target)
        require_unchanged(base, planned(report))
        lock = Path(scratch) / "lock.txt"
        lock.write_text(locked(report))
        pip_install("--no-deps", "--require-hashes", "--requirement", lock)
    now = installed()
    require_unchanged(base, {name: now.get(name, "removed") for name in base})
    added, torch = sorted(now.keys() - base.keys()), now.get("torch", "absent")
    print(f"add_serve: torch is still {torch}, {len(base)} packages of the base kept, added: {', '.join(added)}")


def main() -> None:
    """See the module's text."""
    requirements, target = (Path(argument) for argument in sys.argv[1:])
    target.mkdir(parents=True, exist_ok=True)
    try:
        add(requirements, target / "pip-report.json")
    except (BaseChanged, subprocess.CalledProcessError) as error:
        sys.exit(f"add_serve: {error}\nRemedy: build FROM an SGLang image of the release that this checkout names.")


if __name__ == "__main__":
    main()
