"""Options of all tiers."""

from __future__ import annotations

import pytest
from hypothesis import settings

settings.register_profile("busy machines", deadline=None)  # how long an example takes says nothing on a shared machine
settings.load_profile("busy machines")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write what is rendered now into tests/golden")
