"""What is known of the app's routes before a request comes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from starlette.routing import Match
from starlette.types import Scope

if TYPE_CHECKING:
    from fastapi import FastAPI


def admin_matcher(app: FastAPI, is_admin_endpoint: Callable[[Any], bool]) -> Callable[[Scope], bool]:
    """A function that says whether a request goes to an admin route.

    SGLang's own look-up (`_get_auth_level_from_app_and_scope`) does not see into routers that the app includes: with
    today's FastAPI it takes /scale_elastic_ep for an ordinary route. FastAPI's `iter_route_contexts` does.
    """
    from fastapi.routing import iter_route_contexts  # noqa: PLC0415 - only the engine environment has it

    admin = [route for route in iter_route_contexts(app.routes) if is_admin_endpoint(route.endpoint)]
    # Matching all of them costs 0.1 ms per request; the last segment of the path rules nearly all out.
    by_end = defaultdict(list)
    for route in admin:
        by_end[_last_segment(str(route.path))].append(route)
    patterns = [route for route in admin if "{" in str(route.path)]

    def is_admin(scope: Scope) -> bool:
        # A route's pattern ends in "$", which also matches before a line feed at the end of a path.
        candidates = [*by_end.get(_last_segment(scope["path"].removesuffix("\n")), ()), *patterns]
        return any(route.matches(scope)[0] is Match.FULL for route in candidates)

    return is_admin


def _last_segment(path: str) -> str:
    return path.rpartition("/")[2]
