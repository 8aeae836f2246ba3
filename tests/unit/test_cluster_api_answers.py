"""What the API server, or something in front of it, answers: whatever it is, one kind of error tells."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from kubernetes.aio.client import Configuration

from sglang_operator.cluster.api import Api, ApiError


async def _get(body: str) -> object:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text=body, content_type="text/html")

    app = web.Application()
    app.router.add_get("/{tail:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    api = Api(Configuration(host=f"http://{host}:{port}"))
    try:
        return await api.get("/api/v1/pods")
    finally:
        await api.close()
        await runner.cleanup()


@pytest.mark.parametrize(
    "body",
    [
        "<html>log in first</html>",
        "",
        pytest.param('{"spec": ' * 3000 + "{}" + "}" * 3000, id="levels"),  # which the API server takes from a user
    ],
)
def test_an_answer_that_is_no_json_may_be_one_another_time(body: str) -> None:
    """A worker tries again then, and the leader goes on leading: it renews its lease by the same way."""
    with pytest.raises(ApiError, match="no JSON") as caught:
        asyncio.run(_get(body))
    assert caught.value.is_passing
    assert not caught.value.is_absent


def test_json_is_what_it_says() -> None:
    assert asyncio.run(_get('{"kind": "PodList", "items": []}')) == {"kind": "PodList", "items": []}
