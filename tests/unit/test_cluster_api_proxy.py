"""The API server behind a proxy: aiohttp asks the environment only where it names one."""

import pytest

from sglang_operator.cluster.api import _needs_proxy


@pytest.mark.parametrize(
    ("environment", "needed"),
    [
        ({}, False),
        ({"HTTPS_PROXY": "http://proxy:3128"}, True),
        ({"https_proxy": "http://proxy:3128", "no_proxy": "10.0.0.1"}, False),
        ({"https_proxy": "http://proxy:3128", "no_proxy": "example.com"}, True),
        ({"http_proxy": "http://proxy:3128"}, False),
    ],
)
def test_needs_proxy(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], needed: bool) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert _needs_proxy("https://10.0.0.1:6443") is needed
