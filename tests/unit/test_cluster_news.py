"""Status is what a pass has to say; the Events beside it are told if they can be."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from sglang_operator.cluster.api import ApiError
from sglang_operator.cluster.lease import NotLeaderError
from sglang_operator.cluster.news import news_of, write_news
from sglang_operator.cluster.older_crd import Room
from sglang_operator.lifecycle.reasons import Condition, ConditionType, Reason, Status

Json = dict[str, Any]
METADATA = {"name": "e", "namespace": "d", "uid": "u", "resourceVersion": "1", "generation": 1}
BEFORE = (
    Condition(ConditionType.READY, Status.FALSE, Reason.NOT_SERVING, "none"),
    Condition(ConditionType.PROGRESSING, Status.TRUE, Reason.STARTING, "one"),
)
AFTER = (
    Condition(ConditionType.READY, Status.TRUE, Reason.SERVING, "one"),
    Condition(ConditionType.PROGRESSING, Status.FALSE, Reason.COMPLETE, "done"),
)


class Server:
    """An API server that takes a status, and no Event for this reason."""

    def __init__(self, refusal: Exception) -> None:
        self.refusal = refusal
        self.applied: list[Json] = []

    async def apply(self, _path: str, body: Json) -> None:
        self.applied.append(body)

    async def create(self, _path: str, _body: Json) -> None:
        raise self.refusal


def write(server: Server) -> None:
    live = {"metadata": METADATA}
    live["status"] = news_of(live, {}, BEFORE, 0, partly=False).status
    asyncio.run(write_news(server, Room(), news_of(live, {}, AFTER, 1, partly=False)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "refusal",
    [
        ApiError(403, "Forbidden", 'User "u" cannot create resource "events"'),
        ApiError(403, "Forbidden", "exceeded quota: no more Events"),
        ApiError(500, "", "etcdserver: request timed out"),
        ApiError(429, "TooManyRequests", "later"),
        ApiError(0, "TimeoutError", "the API server cannot be asked"),
    ],
)
def test_a_pass_that_cannot_tell_of_its_status_has_written_it(
    refusal: ApiError, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(refusal)
    write(server)
    (applied,) = server.applied
    assert applied["status"]["reason"] == "Serving"
    (line,) = caplog.records
    assert line.levelno == logging.WARNING
    assert str(refusal) in line.getMessage()


def test_a_lost_lease_ends_the_pass() -> None:
    with pytest.raises(NotLeaderError):
        write(Server(NotLeaderError("e", "another leads")))
