"""Options of all tiers, and the list of tests that have not been shown yet."""

from __future__ import annotations

import pytest

# Written, but never seen to pass on an otherwise idle machine. They are left out of `make test`, loudly, until somebody
# has run them (`make test-unproven`), mended what they find and taken their line away. See CONTRIBUTING.md.
UNPROVEN = (
    "tests/engine/test_conformance.py",
    "tests/engine/test_long_stream.py",
    "tests/engine/test_parity.py",
    "tests/engine/test_start_failures.py",
)
_left_out = pytest.StashKey[list[pytest.Item]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write what is rendered now into tests/golden")
    parser.addoption("--unproven", action="store_true", help="run only the tests that have not been shown yet")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run either the shown tests or, with --unproven, the others."""
    unproven = [item for item in items if item.nodeid.startswith(UNPROVEN)]
    shown = [item for item in items if not item.nodeid.startswith(UNPROVEN)]
    items[:], left_out = (unproven, []) if config.getoption("--unproven") else (shown, unproven)
    config.stash[_left_out] = left_out


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was left out: silence would pass for success."""
    if left_out := config.stash.get(_left_out, []):
        files = sorted({item.nodeid.partition("::")[0] for item in left_out})
        terminalreporter.section("NOT SHOWN YET")
        terminalreporter.line(f"{len(left_out)} tests were left out; run them with `make test-unproven`:")
        terminalreporter.line("  " + " ".join(files))
