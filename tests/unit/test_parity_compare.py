"""The comparison of the parity test must see what it is there to see."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from engine.parity.allowed import SHOWN_ELSEWHERE
from engine.parity.ask import Answer, Ask, load
from engine.parity.compare import differences, is_unsteady
from engine.parity.coverage import NOT_SENT
from engine.parity.events import merged

ROOT = Path(__file__).parents[2]
ENGINE_TESTS = ROOT / "tests" / "engine"
CHAT = Ask("chat", "/v1/chat/completions")
STREAM = Ask("stream", "/v1/chat/completions", stream=True)
JSON = {"content-type": "application/json"}
SSE = {"content-type": "text/event-stream; charset=utf-8"}


def answer(body: Any, status: int = 200, **headers: str) -> Answer:
    return Answer(status, {**JSON, **headers}, json.dumps(body).encode())


def chunk(text: str | None, index: int = 0, finish: str | None = None) -> dict[str, Any]:
    delta = {} if text is None else {"content": text}
    return {"id": "x", "choices": [{"index": index, "delta": delta, "finish_reason": finish}]}


def with_logprobs(event: dict[str, Any], *tokens: str) -> dict[str, Any]:
    (choice,) = event["choices"]
    return {**event, "choices": [{**choice, "logprobs": {"content": [{"token": token} for token in tokens]}}]}


def stream(*events: Any, end: str = "data: [DONE]\n\n") -> Answer:
    return Answer(200, SSE, "".join(f"data: {json.dumps(event)}\n\n" for event in events).encode() + end.encode())


def test_equal_answers_do_not_differ() -> None:
    assert differences(CHAT, answer({"id": "a", "text": "x"}), answer({"id": "b", "text": "x"})) == []


@pytest.mark.parametrize(
    ("served", "where"),
    [
        (answer({"id": 3, "text": "x"}), "body.id"),  # another type of a volatile value
        (answer({"id": "a", "text": "y"}), "body.text"),
        (answer({"id": "a"}), "body.text"),
        (answer({"id": "a", "text": "x", "more": None}), "body.more"),
        (answer({"id": "a", "text": "x"}, status=201), "status"),
        (answer({"id": "a", "text": "x"}, vary="Origin"), "header.vary"),
        (Answer(200, {"content-type": "text/plain"}, b'{"id": "a", "text": "x"}'), "header.content-type"),
        (Answer(200, JSON, b"oops"), "body"),
    ],
)
def test_each_difference_is_named(served: Answer, where: str) -> None:
    (found,) = differences(CHAT, answer({"id": "a", "text": "x"}), served)
    assert found.startswith(where + ":")


def test_rounding_is_no_difference() -> None:
    assert differences(CHAT, answer({"logprob": -1.00001}), answer({"logprob": -1.00002})) == []
    assert differences(CHAT, answer({"logprob": -1.0}), answer({"logprob": -1.1})) != []


def test_half_a_character_may_come_with_its_other_half() -> None:
    first, half, rest = (with_logprobs(chunk(text), token) for text, token in (("a", "a"), (None, "?"), ("é", "!")))
    at_once = with_logprobs(chunk("é"), "?", "!")
    end = chunk(None, finish="stop")
    assert differences(STREAM, stream(first, half, rest, end), stream(first, at_once, end)) == []
    assert differences(STREAM, stream(first, half, rest, end), stream(first, rest, end)) != []


def test_tokens_may_come_in_other_portions() -> None:
    one_by_one = stream(chunk("a"), chunk("b"), chunk("c"), chunk(None, finish="stop"))
    at_once = stream(chunk("ab"), chunk("c"), chunk(None, finish="stop"))
    assert differences(STREAM, one_by_one, at_once) == []


@pytest.mark.parametrize(
    "served",
    [
        stream(chunk("a"), chunk("b"), chunk("x"), chunk(None, finish="stop")),
        stream(chunk("abc"), chunk(None, finish="length")),
        stream(chunk("abc")),
        stream(chunk("abc"), chunk(None, finish="stop"), end=""),
        stream(chunk(None, finish="stop"), chunk("abc")),
        stream({"choices": []}, chunk("abc"), chunk(None, finish="stop")),
    ],
)
def test_another_text_order_or_end_of_a_stream_is_a_difference(served: Answer) -> None:
    assert differences(STREAM, stream(chunk("ab"), chunk("c"), chunk(None, finish="stop")), served) != []


def test_choices_may_interleave() -> None:
    first = stream(chunk("a", 0), chunk("x", 1), chunk("b", 0), chunk(None, 1, "stop"), chunk(None, 0, "stop"))
    second = stream(chunk("x", 1), chunk("a", 0), chunk("b", 0), chunk(None, 0, "stop"), chunk(None, 1, "stop"))
    assert differences(STREAM, first, second) == []
    swapped = stream(chunk("a", 1), chunk("x", 0), chunk("b", 1), chunk(None, 0, "stop"), chunk(None, 1, "stop"))
    assert differences(STREAM, first, swapped) != []


def test_a_cumulative_stream_counts_by_its_last_event() -> None:
    events = [{"text": "a", "n": 1}, {"text": "ab", "n": 2}]
    assert merged(events, cumulative=True) == [{"text": "ab", "n": 2}]


def test_another_framing_is_a_difference() -> None:
    lines = Answer(200, SSE, b'data: {"a": 1}\ndata: {"a": 2}\n\n')
    with pytest.raises(json.JSONDecodeError):
        differences(STREAM, stream({"a": 1}), lines)


A, B = stream(chunk("a")), stream(chunk("b"))


@pytest.mark.parametrize(
    ("natives", "unsteady"),
    [
        ([A], False),  # nothing was repeated
        ([A, A], False),  # one repetition may be chance
        ([A, A, A], True),
        ([A, B, A], False),  # native differs from itself
    ],
)
def test_a_stream_of_ours_that_has_to_be_repeated_twice_is_unsteady(natives: list[Answer], unsteady: bool) -> None:
    assert is_unsteady(STREAM, natives) is unsteady


@pytest.mark.parametrize("shown_by", SHOWN_ELSEWHERE.values())
def test_what_another_test_shows_it_does_show(shown_by: str) -> None:
    file, _, name = shown_by.partition("::")
    assert f"def {name}(" in (ENGINE_TESTS / file).read_text()


@pytest.mark.parametrize(
    ("route", "file"), [(route, file) for route, why in NOT_SENT.items() for file in re.findall(r"test_\w+\.py", why)]
)
def test_what_another_test_asks_it_does_ask(route: str, file: str) -> None:
    assert route.rpartition("/")[2] in (ENGINE_TESTS / file).read_text()


def test_the_page_names_the_routes_that_are_not_compared() -> None:
    rows = (ROOT / "docs" / "reference" / "parity.md").read_text().partition("## What is not compared")[2]
    assert set(re.findall(r"`(/[\w/]+)`", rows)) == NOT_SENT.keys()


@pytest.mark.parametrize("name", ["generate", "native", "admin", "auth", "embed", "smollm2"])
def test_the_request_files_can_be_read(name: str) -> None:
    assert load(name)
