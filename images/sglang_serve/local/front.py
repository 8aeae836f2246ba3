"""Whether the HTTP front of a run leads to a replica."""

from __future__ import annotations

import http.client
import json
from typing import Any

from sglang_serve.report import PATH

SECONDS = 5


def is_up(url: str) -> bool:
    """True when a replica answers, or when none shall run (`target` 0) and the head holds what comes.

    `/-/healthz` would not do: on a head HAProxy calls itself healthy with no replica at all, and hands what comes to
    the head's own proxy, where a check like `/health` is then refused.
    """
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=SECONDS)
    try:
        connection.request("GET", PATH)
        reply = connection.getresponse()
        return reply.status == http.client.OK or _said(reply.read()).get("target") == 0
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _said(body: bytes) -> dict[str, Any]:
    """What `HoldMiddleware` says of itself; {} for a text of the front's own."""
    try:
        said = json.loads(body)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
