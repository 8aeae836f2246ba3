"""The differences to native that are on purpose. docs/reference/parity.md explains each; a test compares the two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from engine.parity.ask import Answer, Ask
from engine.parity.compare import differences

# Fields of /server_info that say how the process was started, which cannot be the same for two ways to start it. They
# occur at the top and in each rank's internal state. Native shows its keys there.
SERVER_INFO_FIELDS = frozenset({"host", "port", "nccl_port", "launch_command", "api_key", "admin_api_key"})


@dataclass(frozen=True)
class Difference:
    """`expected`: whether this request is answered in another way; `holds`: whether that is the documented way."""

    name: str
    expected: Callable[[Ask, str], bool]
    holds: Callable[[Answer], bool]


ELASTIC_EP = ("/scale_elastic_ep", "/is_scaling_elastic_ep")

# The whole answer is another one.
WHOLE = (
    Difference("reserved-paths", lambda ask, _: ask.path.startswith("/-/"), lambda answer: answer.status == 200),
    Difference(
        "request-timeout",
        lambda ask, _: "x-request-timeout-seconds" in ask.headers,
        lambda answer: answer.status == 408,
    ),
    Difference(
        "admin-closed",
        lambda ask, mode: ask.is_admin and mode != "admin",
        lambda answer: answer.status == 403 and answer.value()["code"] == 403,
    ),
    Difference(
        "elastic-ep-routes",
        lambda ask, mode: ask.path in ELASTIC_EP and mode == "admin",
        lambda answer: answer.status not in (401, 403),
    ),
)
# A part of the answer is another one.
PARTS = ("request-id", "one-request-per-connection", "server-info")
# What they need is no part of a normal exchange: here are the tests that show what ours does.
SHOWN_ELSEWHERE = {
    "body-limit": "test_access.py::test_a_body_over_the_limit_is_413",
    "websocket-keys": "test_access.py::test_a_websocket_needs_a_key",
    "unknown-model": "test_access.py::test_a_model_that_is_not_served_is_openais_404",
    "path-labels": "test_sglang_private.py::test_paths_that_no_route_has_make_one_series",
}
# Asked in one mode, at its end, for it costs the replica.
FRONT = Difference(
    "front-errors",
    lambda _, mode: mode == "open",
    lambda answer: answer.status == 500 and not answer.headers.get("content-type", "").startswith("application/json"),
)
HELD = "held-requests"
NAMES = frozenset({*PARTS, FRONT.name, HELD, *(difference.name for difference in WHOLE)})


def unexplained(ask: Ask, mode: str, native: Answer, served: Answer) -> tuple[list[str], set[str]]:
    """The differences that nothing allows, and the names of the allowed ones that were met."""
    for whole in WHOLE:
        if whole.expected(ask, mode):
            return ([] if whole.holds(served) else [f"{whole.name}: served {served}"]), {whole.name}
    found = differences(ask, native, _without_close(native, _without_request_id(ask, served)))
    met = {"request-id"} if "x-request-id" in served.headers else set()
    if served.headers.get("connection") == "close":
        met.add("one-request-per-connection")
    if "server_info" in ask.path:
        allowed = {line for line in found if _is_start_field(line)}
        return [line for line in found if line not in allowed], met | ({"server-info"} if allowed else set())
    return found, met


def _without_request_id(ask: Ask, served: Answer) -> Answer:
    """Every answer of Serve has one; it must be the client's own where the client sent one."""
    headers: dict[str, Any] = dict(served.headers)
    given = ask.headers.get("x-request-id")
    if given is None or headers.get("x-request-id") == given:
        headers.pop("x-request-id", None)
    return replace(served, headers=headers)


def _without_close(native: Answer, served: Answer) -> Answer:
    """HAProxy ends the connection after every answer, and says so."""
    if "connection" in native.headers or served.headers.get("connection") != "close":
        return served
    return replace(served, headers={name: value for name, value in served.headers.items() if name != "connection"})


def _is_start_field(line: str) -> bool:
    return line.partition(":")[0].rpartition(".")[2] in SERVER_INFO_FIELDS
