"""Options of all tiers."""

from __future__ import annotations

import pytest
from hypothesis import settings
from waiting import PATIENCE

settings.register_profile("busy machines", deadline=None)  # how long an example takes says nothing on a shared machine
settings.load_profile("busy machines")


@pytest.hookimpl(trylast=True)  # after the tiers' own limits
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What ends a hang is as patient as `wait_until`."""
    for item in items:
        limit = item.get_closest_marker("timeout")
        seconds = limit.args[0] if limit else float(config.getini("timeout"))
        item.add_marker(pytest.mark.timeout(seconds * PATIENCE), append=False)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write what is rendered now into tests/golden")
