"""Which differences to the native server fail, and which do not."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import httpx
import pytest

from sglang_serve.conformance import parity
from sglang_serve.conformance.client import Client
from sglang_serve.conformance.outcome import Failed


def answer(body: Any, status: int = 200) -> parity.Answer:
    return parity.Answer(status, "application/json", parity.normal(body))


def compare(native: parity.Answer, ours: parity.Answer) -> str:
    return parity.compare({"one": native}, {"one": ours})


CHAT = {"id": "1", "created": 1, "choices": [{"message": {"content": "Paris"}, "finish_reason": "stop"}]}


def test_ids_and_times_may_differ() -> None:
    assert "same content in 1" in compare(answer(CHAT), answer({**CHAT, "id": "2", "created": 2}))


def test_other_text_is_counted_but_no_failure() -> None:
    other = {**CHAT, "choices": [{"message": {"content": "Rome"}, "finish_reason": "stop"}]}
    assert "same content in 0" in compare(answer(CHAT), answer(other))


@pytest.mark.parametrize(
    ("ours", "what"),
    [
        (answer(CHAT, status=500), "status is 200 natively, 500 here"),
        (replace(answer(CHAT), content_type="text/plain"), "content_type is application/json natively"),
        (answer({**CHAT, "extra": None}), "the body is"),
        (answer({**CHAT, "choices": []}), "the body is"),
        (answer({**CHAT, "choices": [{"message": {"content": None}, "finish_reason": "stop"}]}), "the body is"),
    ],
)
def test_what_a_client_could_trip_over_fails(ours: parity.Answer, what: str) -> None:
    with pytest.raises(Failed, match="1 of 1") as failure:
        compare(answer(CHAT), ours)
    assert what in failure.value.log


def test_text_of_errors_must_be_the_same() -> None:
    with pytest.raises(Failed) as failure:
        compare(answer({"message": "too long"}, 400), answer({"message": "oops"}, 400))
    assert "oops" in failure.value.log


def events(*texts: str, done: bool = True) -> str:
    lines = [json.dumps({"id": "x", "choices": [{"delta": {"content": text}}]}) for text in texts]
    return "".join(f"data: {line}\n\n" for line in [*lines, *(["[DONE]"] if done else [])])


def test_streams_may_be_cut_into_other_pieces() -> None:
    whole, pieces = parity._events(events("Paris.")), parity._events(events("Par", "is."))
    assert whole == pieces
    assert whole["text"] == "Paris."


def test_streams_must_end_alike() -> None:
    with pytest.raises(Failed):
        compare(answer(parity._events(events("Paris"))), answer(parity._events(events("Paris", done=False))))


def test_every_request_is_sent_as_it_is_written() -> None:
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={})

    client = Client("http://test")
    client._http = httpx.Client(base_url="http://test", transport=httpx.MockTransport(handle))
    answers = parity.ask_all(client)
    assert [request.url.path for request in seen] == [one.path for one in parity.requests()]
    assert len(answers) == len(seen), "two requests have one name"
