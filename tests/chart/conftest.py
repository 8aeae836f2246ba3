"""The chart, rendered by each Helm that it is for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import helm
import pytest

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "sglang-operator"


@dataclass(frozen=True)
class Chart:
    """`helm template` of the chart by one Helm."""

    version: str
    scratch: Path

    def render(self, values: Mapping[str, Any] | None = None, *, release: str = "sglang-operator") -> list[Any]:
        """Every object, as the release `release` in the namespace `serving`."""
        return list(helm.parse(self.text(values, release=release)))

    def text(
        self,
        values: Mapping[str, Any] | None = None,
        *,
        release: str = "sglang-operator",
        namespace: str = "serving",
    ) -> str:
        """What `render` reads, as Helm writes it."""
        return self._template(values or {}, release, namespace, check=True)[1]

    def refusal(self, values: Mapping[str, Any]) -> str:
        """What Helm says when it refuses `values`; "" if it takes them."""
        return self.outcome(values)[1]

    def outcome(self, values: Mapping[str, Any]) -> tuple[str, str]:
        """(what Helm writes, what it says when it refuses `values`), of which one is empty."""
        return self._template(values, "sglang-operator", "serving", check=False)[1:]

    def lint(self, values: Mapping[str, Any]) -> str:
        """What `helm lint --strict` finds; a finding fails the test."""
        return helm.run(self.version, "lint", "--strict", str(CHART), *self._file(values)).stdout

    def _template(
        self, values: Mapping[str, Any], release: str, namespace: str, *, check: bool
    ) -> tuple[int, str, str]:
        arguments = ("template", release, str(CHART), "--namespace", namespace, *self._file(values))
        done = helm.run(self.version, *arguments, check=check)
        return done.returncode, done.stdout, done.stderr if done.returncode else ""

    def _file(self, values: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(helm.set_values(self.scratch / "values.yaml", dict(values)))


@pytest.fixture(params=helm.VERSIONS, ids=lambda version: f"helm{version}")
def chart(request: pytest.FixtureRequest, tmp_path: Path) -> Chart:
    return Chart(request.param, tmp_path)
