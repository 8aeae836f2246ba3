"""Makes an object what was written, also where somebody has added to its lists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sglang_operator.cluster.api import Api
from sglang_operator.cluster.compare import covers


async def put_back(api: Api, path: str, wanted: Mapping[str, Any]) -> None:
    """Apply it. An apply leaves what others have added to lists with keys, ports of a Service for example, and each
    pass would apply in vain; so those lists are then written as a whole. Raises ApiError."""
    made = await api.apply(path, wanted)
    if not covers(made.get("spec"), wanted.get("spec")):
        uid = {"uid": made["metadata"]["uid"]}  # never another object of that name
        await api.patch(path, {"metadata": uid, "spec": wanted["spec"]})
