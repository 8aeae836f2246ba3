"""Asks an app with SGLang's own counter of requests for paths that it has and has not. Run by the engine's Python.

Out: the labels `endpoint` that the counter has afterwards, as JSON. NATIVE was asked for before we bound them.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from fastapi import FastAPI
from prometheus_client import REGISTRY
from sglang.srt.observability import http_request_metrics

from sglang_serve import sglang_private

NATIVE = "/healthz-of-native"
ASKED = [
    ("GET", "/health"),
    ("GET", "/healthz"),
    ("GET", "/health/../x"),
    ("OPTIONS", "/anything"),
    ("OPTIONS", "/health"),
    ("GET", "/v1/models/tiny"),
]

app = FastAPI()
http_request_metrics.add_http_request_metrics_middleware(app)


async def answer() -> None:
    """200."""


app.get("/health")(answer)
app.get("/v1/models/{model:path}")(answer)


async def ask(method: str, path: str) -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(_: Any) -> None:
        pass

    scope = {"type": "http", "method": method, "path": path, "root_path": "", "query_string": b"", "headers": []}
    await app({**scope, "scheme": "http", "server": ("h", 80)}, receive, send)


async def main() -> None:
    await ask("GET", NATIVE)
    sglang_private.count_by_route()
    for method, path in ASKED:
        await ask(method, path)


if __name__ == "__main__":
    http_request_metrics.init_http_request_metrics()
    asyncio.run(main())
    samples = [one for metric in REGISTRY.collect() if metric.name.startswith("sglang:http_") for one in metric.samples]
    print(json.dumps(sorted({one.labels["endpoint"] for one in samples if "endpoint" in one.labels})))
