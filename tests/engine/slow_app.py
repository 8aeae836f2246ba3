"""A Serve application without an engine: what the tests of the runner itself deploy. Runs in the engine environment."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

from ray import serve
from starlette.requests import Request
from starlette.responses import StreamingResponse


class Slow:
    """Answers with its pid, then the numbers below `count`, ten a second."""

    def __init__(self, count: int) -> None:
        self._count = count

    async def __call__(self, _request: Request) -> StreamingResponse:
        return StreamingResponse(self._numbers())

    async def _numbers(self) -> AsyncIterator[str]:
        yield f"{os.getpid()}\n"
        for number in range(self._count):
            await asyncio.sleep(0.1)
            yield f"{number}\n"


def build(args: dict[str, Any]) -> serve.Application:
    """What `import_path` names."""
    application: serve.Application = serve.deployment(name="SGLangServer")(Slow).bind(args["count"])
    return application
