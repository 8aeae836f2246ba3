"""Every route of the pinned SGLang is asked by each of its methods in the parity test, or is here with the reason."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

# Runs in the engine environment: the routes of SGLang's real app, with the pattern that each matches.
PROBE = """
import json
from fastapi.routing import iter_route_contexts
from sglang.srt.entrypoints.http_server import app
from sglang.srt.utils.auth import AuthLevel
def is_admin(route):
    return getattr(route.endpoint, "_auth_level", AuthLevel.NORMAL) is not AuthLevel.NORMAL
routes = iter_route_contexts(app.routes)
print(json.dumps([[r.path, r.path_regex.pattern, sorted(r.methods or ()), is_admin(r)] for r in routes]))
"""

NOT_SENT = {
    "/v1/realtime": "a websocket: test_realtime.py speaks through both",
    "/start_profile": "writes a trace for as long as it runs: test_long_stream.py takes some",
    "/start_expert_distribution_record": "ends the scheduler of a model without experts",
    "/stop_expert_distribution_record": "as above",
    "/dump_expert_distribution_record": "as above",
    "/release_memory_occupation": "ends the scheduler unless memory_saver is on, which needs a GPU",
    "/resume_memory_occupation": "as above",
}


@dataclass(frozen=True)
class Route:
    """A route of the app; a websocket has no methods."""

    path: str
    pattern: str
    methods: tuple[str, ...]
    is_admin: bool

    def unasked(self, asked: set[tuple[str, str]]) -> set[str]:
        """The methods of this route that none of these pairs of method and path meets; of a websocket its "GET"."""
        met = {method for method, path in asked if re.match(self.pattern, path.partition("?")[0])}
        return set(self.methods or ("GET",)) - met


def routes(engine_python: Path) -> list[Route]:
    """All routes of the installed SGLang's app. Takes an import of SGLang: ten seconds."""
    done = subprocess.run([engine_python, "-c", PROBE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads(done.stdout.splitlines()[-1])
    return [Route(path, pattern, tuple(methods), is_admin) for path, pattern, methods, is_admin in rows]
