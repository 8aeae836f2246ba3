"""The body of a write, which asks right before it is sent whether it still may be.

Between a request's start and its first byte, a connection is waited for, opened, or found dead and opened again: a
process that stands still there, and goes on when another one leads, must not write. Nobody obeys a request whose body
does not come.
"""

from __future__ import annotations

from collections.abc import Callable

import aiohttp
from aiohttp.abc import AbstractStreamWriter


class GuardedBody(aiohttp.BytesPayload):
    """`guard` raises to refuse it; what it raised is in `refusal`, because aiohttp tells only that nothing was sent."""

    def __init__(self, body: bytes, guard: Callable[[], None], content_type: str) -> None:
        super().__init__(body, content_type=content_type)
        self._guard = guard
        self.refusal: BaseException | None = None

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Called once for each try of the request."""
        try:
            self._guard()
        except BaseException as refusal:
            self.refusal = refusal
            raise aiohttp.ClientConnectionError("refused") from refusal
        await super().write_with_length(writer, content_length)
