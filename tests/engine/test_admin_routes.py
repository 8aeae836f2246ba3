"""The admin routes of the pinned SGLang, found in its real app."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from sglang_operator.cli.local_process import import_path

# Runs in the engine environment. Prints, per route and method: path, method, whether the matcher calls it admin, and
# whether it says the same of each spelling that Starlette dispatches to it.
PROBE = """
import json
from fastapi.routing import iter_route_contexts
from sglang.srt.entrypoints.http_server import app
from sglang.srt.utils.auth import AuthLevel
from starlette.routing import Match
from sglang_serve.routes import admin_matcher

def is_admin_endpoint(endpoint):
    return getattr(endpoint, "_auth_level", AuthLevel.NORMAL) is not AuthLevel.NORMAL

is_admin = admin_matcher(app, is_admin_endpoint)
base = {"type": "http", "headers": [], "query_string": b"", "root_path": "", "app": app}
rows = []
for route in iter_route_contexts(app.routes):
    for method in sorted(route.methods or ()):
        scope = {**base, "path": route.path, "method": method}
        respelt = [{**scope, "path": text % route.path} for text in ("%s\\n", "%s/", "/%s", "%s\\r", "%s\\n\\n", "%s ")]
        same = [is_admin(one) for one in respelt if route.matches(one)[0] is Match.FULL]
        rows.append([route.path, method, is_admin(scope), all(one == is_admin(scope) for one in same), len(same)])
print(json.dumps(rows))
"""


Row = tuple[str, str, bool, bool, int]


@pytest.fixture(scope="module")
def rows(engine_python: Path) -> list[Row]:
    env = {**os.environ, **import_path()}
    done = subprocess.run([engine_python, "-c", PROBE], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return [tuple(row) for row in json.loads(done.stdout.splitlines()[-1])]


@pytest.fixture(scope="module")
def admin_routes(rows: list[Row]) -> dict[tuple[str, str], bool]:
    return {(path, method): admin for path, method, admin, _, _ in rows}


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


def test_no_other_spelling_of_an_admin_route_is_open(rows: list[Row]) -> None:
    """`/flush_cache%0A` is dispatched to /flush_cache."""
    assert [path for path, _, _, is_same, _ in rows if not is_same] == []
    assert all(spellings for _, _, is_admin, _, spellings in rows if is_admin), "a line feed was tried on each"


def test_none_of_the_routes_that_change_the_engine_was_forgotten(admin_routes: dict[tuple[str, str], bool]) -> None:
    """A new SGLang that marks its routes in another way shows here."""
    assert len({path for (path, _), admin in admin_routes.items() if admin}) >= 42


def test_what_needs_no_key_is_not_more_than_probes(admin_routes: dict[tuple[str, str], bool]) -> None:
    """sglang_serve.auth opens prefixes, as SGLang does: no other route may begin with them."""
    opened = {path for path, _ in admin_routes if path.startswith(("/health", "/ready", "/metrics"))}
    assert opened == {"/health", "/health_generate", "/ready"}
