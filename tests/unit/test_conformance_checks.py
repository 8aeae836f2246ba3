"""The checks fail where an endpoint breaks its word; that they pass on a good one, the engine tests show."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from sglang_serve.args import ParallelArgs
from sglang_serve.conformance import checks
from sglang_serve.conformance.client import Client, finish_reason, tokens_per_second
from sglang_serve.conformance.config import NAME
from sglang_serve.conformance.outcome import Failed

MODELS = {"data": [{"id": NAME}]}


def client(answer: Callable[[httpx.Request], httpx.Response]) -> Client:
    one = Client("http://test")
    one._http = httpx.Client(base_url="http://test", transport=httpx.MockTransport(answer))
    return one


def event(text: str, finish: str | None = None) -> str:
    return json.dumps({"choices": [{"delta": {"content": text}, "finish_reason": finish}]})


def routes(**answers: Any) -> Callable[[httpx.Request], httpx.Response]:
    """JSON by the last part of the path."""
    return lambda request: httpx.Response(200, json=answers[request.url.path.rpartition("/")[2]])


def test_another_model_is_noticed() -> None:
    with pytest.raises(Failed, match="lists \\['other'\\]"):
        checks.answers(client(routes(models={"data": [{"id": "other"}]})))


def test_missing_tokens_are_noticed() -> None:
    short = {"usage": {"completion_tokens": 3}}
    with pytest.raises(Failed, match="16 tokens were asked for, 3 came"):
        checks.answers(client(routes(models=MODELS, completions=short)))


def test_an_error_shows_what_was_answered() -> None:
    with pytest.raises(Failed, match="GET /v1/models answered 500: broken"):
        checks.answers(client(lambda _: httpx.Response(500, text="broken")))


def test_a_cut_stream_is_noticed() -> None:
    checks._require_complete([event("a"), event("", "length"), "[DONE]"])
    for cut in ([event("a")], [event("a"), "[DONE]"], [event("a", "abort"), "[DONE]"]):
        with pytest.raises(Failed, match="a stream was cut"):
            checks._require_complete(cut)
    assert finish_reason([event("a"), event("", "length"), "[DONE]"]) == "length"


def test_tokens_that_come_all_at_once_are_no_speed() -> None:
    """Where this program waits for a processor, they have all arrived by the time it looks."""

    def late(_: httpx.Request) -> httpx.Response:
        time.sleep(0.2)
        return httpx.Response(200, text="".join(f"data: {line}\n\n" for line in (*[event("a")] * 64, "[DONE]")))

    assert tokens_per_second(client(late)) <= 64 / 0.2


def test_a_slot_that_stays_taken_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "FREED_SECONDS", 0.1)
    with pytest.raises(Failed, match="requests are running"):
        checks.disconnect(client(routes(loads={"loads": [{"num_running_reqs": 1}, {"num_running_reqs": 0}]})))


def test_a_shown_key_is_noticed() -> None:
    with pytest.raises(Failed, match="/server_info shows a key"):
        checks._require_hidden('{"api_key": "0123"}', ("0123", "4567"))


def test_an_open_endpoint_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "Client", lambda *_: client(lambda _: httpx.Response(200, json={})))
    with pytest.raises(Failed, match="without a key answers 200, not 401"):
        checks.keys("http://test", tmp_path, "key", "admin", "new")


ONE_RANK = list(range(16))
LATE = [0, 1, 2, 3, *[9] * 12]
TWO = ParallelArgs(2)


def parallel(tokens: Sequence[list[int]], of_one_rank: list[int], wanted: ParallelArgs = TWO) -> str:
    """What the check says of an engine of two ranks that answers with `tokens`, each of its copies in turn."""
    sizes = {"tp_size": 2, "pp_size": 1, "dp_size": wanted.data, "attn_dp_size": wanted.attention_data, "ep_size": 2}
    good = {"models": MODELS, "server_info": sizes}
    turns = itertools.cycle(tokens)

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/generate":
            return httpx.Response(200, json={"output_ids": next(turns)})
        if request.url.path != "/v1/chat/completions":
            return routes(**good)(request)
        if not json.loads(request.content).get("stream"):
            return httpx.Response(200, json={"usage": {"completion_tokens": 16}})
        return httpx.Response(200, text="".join(f"data: {one}\n\n" for one in (event("a", "length"), "[DONE]")))

    return checks.parallel(client(answer), wanted, of_one_rank)


def test_several_ranks_that_say_what_one_says() -> None:
    assert parallel([ONE_RANK], ONE_RANK).startswith("2 ranks; the first 16 of 16 greedy tokens are those of one rank")


def test_a_late_difference_is_rounding() -> None:
    assert "the first 4 of 16 greedy tokens" in parallel([LATE], ONE_RANK)


def test_without_an_answer_of_one_rank_the_others_are_checked() -> None:
    assert "not compared" in parallel([ONE_RANK], [])


def test_ranks_that_say_something_else_are_noticed() -> None:
    with pytest.raises(Failed, match="the first 4 must be equal"):
        parallel([[0, 1, 2, 9, *[4] * 12]], ONE_RANK)


COPIES, GROUPS = ParallelArgs(2, data=2), ParallelArgs(2, attention_data=2)


@pytest.mark.parametrize(("wanted", "ranks"), [(COPIES, 4), (GROUPS, 2)])
def test_every_copy_and_every_group_is_asked(wanted: ParallelArgs, ranks: int) -> None:
    said = parallel([ONE_RANK, ONE_RANK], ONE_RANK, wanted)
    assert said.startswith(f"{ranks} ranks; the first 16 of 16")
    with pytest.raises(Failed, match="the first 4 must be equal"):
        parallel([ONE_RANK, [9] * 16], ONE_RANK, wanted)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (ParallelArgs(4), "tp_size 2, not 4"),
        (ParallelArgs(2, 2), "pp_size 1, not 2"),
        (ParallelArgs(2, expert=1), "ep_size 2, not 1"),
    ],
)
def test_another_number_of_ranks_is_noticed(wanted: ParallelArgs, message: str) -> None:
    with pytest.raises(Failed, match=message):
        parallel([ONE_RANK], ONE_RANK, wanted)


class _Engine:
    """Says other tokens through each adapter; `mix` may change which adapter that is, by how many run."""

    def __init__(self, listed: Sequence[str], mix: Callable[[str, int], str] = lambda adapter, _: adapter) -> None:
        self._listed = listed
        self._mix = mix
        self._running = 0
        self._all_run = threading.Barrier(3)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": name} for name in self._listed]})
        if request.url.path == "/v1/loads":
            return httpx.Response(200, json={"loads": [{"num_running_reqs": self._running}]})
        if request.url.path == "/v1/chat/completions":
            return httpx.Response(200, json={})
        return httpx.Response(200, json={"output_ids": self._generate(json.loads(request.content))})

    def _generate(self, body: dict[str, Any]) -> list[int]:
        in_batch = body["sampling_params"]["max_new_tokens"] == checks.BATCH_TOKENS
        if in_batch:
            self._running += 1
            self._all_run.wait(10)
            time.sleep(0.2)  # long enough to be seen
        adapter = self._mix(body["lora_path"] or "", self._running if in_batch else 1)
        return [hash(adapter) % 100_000] * body["sampling_params"]["max_new_tokens"]


def adapters(engine: _Engine) -> str:
    return checks.adapters(client(engine), ("first", "second"))


ALL = (NAME, "first", "second")


def test_adapters_that_say_their_own() -> None:
    assert adapters(_Engine(ALL)).startswith("2 adapters and their model say 3 different things")


def test_an_adapter_that_is_not_listed_is_noticed() -> None:
    with pytest.raises(Failed, match="lists \\['conformance', 'first'\\]"):
        adapters(_Engine(ALL[:2]))


def test_an_adapter_that_is_not_applied_is_noticed() -> None:
    with pytest.raises(Failed, match="say the same"):
        adapters(_Engine(ALL, lambda adapter, _: adapter.replace("second", "")))


def test_a_batch_that_mixes_them_up_is_noticed() -> None:
    with pytest.raises(Failed, match="in one batch"):
        adapters(_Engine(ALL, lambda adapter, running: "first" if running > 1 else adapter))


def test_requests_that_do_not_run_side_by_side_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "FREED_SECONDS", 0.1)
    monkeypatch.setattr(Client, "running", lambda _: 1)
    with pytest.raises(Failed, match="do not run side by side"):
        adapters(_Engine(ALL))
