"""An API server in memory, as far as passes need one: names, versions, apply as a merge, and refusals to order."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping
from typing import Any

from sglang_operator.cluster.api import JSON_PATCH, MERGE_PATCH, Api, ApiError
from sglang_operator.cluster.metadata import stamp

Json = dict[str, Any]
Refuse = Callable[[str, str], ApiError | None]


def nothing_is_refused(_verb: str, _path: str) -> ApiError | None:
    """Every write is done."""
    return None


class SmallServer(Api):
    """`refuse(verb, path)` is asked before each write. `objects`: by path."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.objects: dict[str, Json] = {}
        self.refuse: Refuse = nothing_is_refused
        self.written: list[str] = []
        self._numbers = itertools.count(1)

    def put(self, path: str, body: Mapping[str, Any]) -> Json:
        """As somebody else would write it."""
        made: Json = copy.deepcopy(dict(body))
        named = {"name": path.rpartition("/")[2], "namespace": "default", "generation": 1}
        born = {"uid": f"uid-{next(self._numbers)}", "creationTimestamp": stamp(self.clock())}
        made["metadata"] = {**named, **born, **made.get("metadata", {}), "resourceVersion": str(next(self._numbers))}
        self.objects[path] = made
        return copy.deepcopy(made)

    async def get(self, path: str) -> Json:
        if path.endswith("/log") or "?" in path:  # nobody says anything
            return {"items": []}
        if path not in self.objects:
            raise ApiError(404, "NotFound", path)
        return copy.deepcopy(self.objects[path])

    async def text(self, path: str, **query: str) -> str:
        raise ApiError(404, "NotFound", path)

    async def list(self, path: str, labels: str = "") -> list[Json]:
        key, _, value = labels.partition("=")
        found = [one for at, one in self.objects.items() if at.rpartition("/")[0] == path]
        return [copy.deepcopy(one) for one in found if not key or one["metadata"].get("labels", {}).get(key) == value]

    async def create(self, path: str, body: Mapping[str, Any], *, strict: bool = False) -> Json:
        self._ask("POST", path)
        at = f"{path}/{body['metadata']['name']}"
        if at in self.objects:
            raise ApiError(409, "AlreadyExists", at)
        return self.put(at, body)

    async def apply(self, path: str, body: Mapping[str, Any]) -> Json:
        return self._merge("APPLY", path, body)

    async def patch(self, path: str, body: Any, content_type: str = MERGE_PATCH) -> Json:
        if content_type != JSON_PATCH:
            return self._merge("PATCH", path, body)
        self._ask("PATCH", path)
        for one in body:
            *way, last = one["path"].strip("/").split("/")
            at: Any = self.objects[path]
            for part in way:
                at = at[int(part)] if isinstance(at, list) else at[part]
            if one["op"] == "add":
                at[last] = one["value"]
        return copy.deepcopy(self.objects[path])

    async def delete(self, path: str, uid: str = "", version: str = "") -> None:
        self._ask("DELETE", path)
        self.objects.pop(path, None)

    def _merge(self, verb: str, path: str, body: Mapping[str, Any]) -> Json:
        self._ask(verb, path)
        at = path.removesuffix("/status")
        if at not in self.objects:
            raise ApiError(404, "NotFound", at)
        old, said = self.objects[at], body.get("metadata", {})
        if any(said.get(key, old["metadata"][key]) != old["metadata"][key] for key in ("uid", "resourceVersion")):
            raise ApiError(409, "Conflict", at)
        made = {**old, "status": body["status"]} if path != at else _merged(old, body)
        made["metadata"] = {**made["metadata"], "resourceVersion": str(next(self._numbers))}
        self.objects[at] = copy.deepcopy(made)
        return copy.deepcopy(made)

    def _ask(self, verb: str, path: str) -> None:
        self.written.append(f"{verb} {path}")
        if error := self.refuse(verb, path):
            raise error


def _merged(base: Any, patch: Any) -> Any:
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    made = dict(base) if isinstance(base, Mapping) else {}
    for key, value in patch.items():
        made[key] = _merged(made.get(key), value)
        if value is None:
            del made[key]
    return made
