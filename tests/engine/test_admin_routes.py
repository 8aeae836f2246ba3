"""The admin routes of the pinned SGLang, found in its real app."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from sglang_operator.cli.local_process import import_path

# Runs in the engine environment. Prints, per route and method: path, method, whether the matcher calls it admin.
PROBE = """
import json
from fastapi.routing import iter_route_contexts
from sglang.srt.entrypoints.http_server import app
from sglang.srt.utils.auth import AuthLevel
from sglang_serve.routes import admin_matcher

def is_admin_endpoint(endpoint):
    return getattr(endpoint, "_auth_level", AuthLevel.NORMAL) is not AuthLevel.NORMAL

is_admin = admin_matcher(app, is_admin_endpoint)
base = {"type": "http", "headers": [], "query_string": b"", "root_path": "", "app": app}
rows = []
for route in iter_route_contexts(app.routes):
    for method in sorted(route.methods or ()):
        rows.append([route.path, method, is_admin({**base, "path": route.path, "method": method})])
print(json.dumps(rows))
"""


@pytest.fixture(scope="module")
def admin_routes(engine_python: Path) -> dict[tuple[str, str], bool]:
    env = {**os.environ, **import_path()}
    done = subprocess.run([engine_python, "-c", PROBE], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return {(path, method): admin for path, method, admin in json.loads(done.stdout.splitlines()[-1])}


@pytest.mark.parametrize(
    "route",
    [
        ("/flush_cache", "POST"),
        ("/hicache/storage-backend", "DELETE"),
        ("/load_lora_adapter", "POST"),
        ("/scale_elastic_ep", "POST"),  # in an included router, where SGLang's own look-up does not see it
        ("/is_scaling_elastic_ep", "GET"),
    ],
)
def test_is_an_admin_route(admin_routes: dict[tuple[str, str], bool], route: tuple[str, str]) -> None:
    assert admin_routes[route]


@pytest.mark.parametrize("route", [("/v1/chat/completions", "POST"), ("/v1/loads", "GET"), ("/server_info", "GET")])
def test_is_for_everybody_with_a_key(admin_routes: dict[tuple[str, str], bool], route: tuple[str, str]) -> None:
    assert not admin_routes[route]


def test_none_of_the_routes_that_change_the_engine_was_forgotten(admin_routes: dict[tuple[str, str], bool]) -> None:
    """A new SGLang that marks its routes in another way shows here."""
    assert len({path for (path, _), admin in admin_routes.items() if admin}) >= 42


def test_what_needs_no_key_is_not_more_than_probes(admin_routes: dict[tuple[str, str], bool]) -> None:
    """sglang_serve.auth opens prefixes, as SGLang does: no other route may begin with them."""
    opened = {path for path, _ in admin_routes if path.startswith(("/health", "/ready", "/metrics"))}
    assert opened == {"/health", "/health_generate", "/ready"}
