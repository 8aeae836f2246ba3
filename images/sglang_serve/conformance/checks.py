"""The checks of a running endpoint. Each returns what it measured, or raises Failed or Skipped."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from sglang_serve.args import ParallelArgs
from sglang_serve.conformance.client import DONE, Client, chat, finish_reason, tokens_per_second
from sglang_serve.conformance.config import NAME
from sglang_serve.conformance.outcome import Failed, Skipped
from sglang_serve.conformance.processes import Endpoint

POLL_SECONDS = 0.05
ENDLESS = 16_000  # tokens: more than any of these checks waits for
FREED_SECONDS = 5  # promised is one second or one step of the scheduler; a busy machine may take longer
RELOAD_SECONDS = 10  # a key file counts after at most one second, plus a slow file system
DRAINED_STREAM_SECONDS = 6
LOST_MIB = 256  # of an accelerator's memory: what a driver may keep for itself
ADMIN_ROUTE = "/flush_cache"
BATCH_TOKENS = 1_000  # of each answer that shall be made beside others
COMPARED_TOKENS, SURE_TOKENS = 16, 4  # of a greedy answer: asked for; not to be changed by rounding
OK, UNAUTHORIZED = 200, 401


def answers(client: Client) -> str:
    """Whole and streamed chat completions have the tokens that were asked for."""
    served = [model["id"] for model in client.value("GET", "/v1/models")["data"]]
    if served != [NAME]:
        raise Failed(f"/v1/models lists {served}, not {[NAME]}")
    usage = client.value("POST", "/v1/chat/completions", chat("Hello.", 16))["usage"]
    if usage["completion_tokens"] != 16:  # noqa: PLR2004 - as asked for above
        raise Failed(f"16 tokens were asked for, {usage['completion_tokens']} came")
    with client.stream(chat("Hello.", 16)) as events:
        _require_complete(list(events))
    return f"one stream runs at {tokens_per_second(client):.0f} tokens/s"


def disconnect(client: Client) -> str:
    """A client that goes away frees its slot, in the middle of a stream and while it waits for a whole answer."""
    _require_idle(client)
    with client.stream(chat("Go on.", ENDLESS)) as events:
        list(itertools.islice(events, 3))
        wait_for(lambda: client.running() > 0, FREED_SECONDS, "/v1/loads shows no request in the middle of a stream")
    streamed = _seconds_until_idle(client)
    _give_up(client)
    whole = _seconds_until_idle(client)
    return f"slot free {streamed:.1f} s after a stream was closed, {whole:.1f} s after a waiting client had gone"


def _give_up(client: Client) -> None:
    """Ask for a long answer and leave once it is being made: httpx closes the connection when its time is over."""
    try:
        client.request("POST", "/v1/chat/completions", chat("Go on.", ENDLESS), timeout=2)
    except httpx.ReadTimeout:
        return
    raise Failed(f"{ENDLESS} tokens came within 2 s: nothing to give up")


def _require_idle(client: Client) -> None:
    wait_for(lambda: client.running() == 0, FREED_SECONDS, "requests are running before the check")


def _seconds_until_idle(client: Client) -> float:
    return wait_for(lambda: client.running() == 0, FREED_SECONDS, "the slot of a client that has gone is not free")


def wait_for(condition: Callable[[], bool], seconds: float, otherwise: str) -> float:
    """Seconds until `condition` holds; raises Failed if it does not within `seconds`."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise Failed(f"{otherwise} after {seconds:.0f} s")
        time.sleep(POLL_SECONDS)
    return time.monotonic() - began


def keys(url: str, keys_dir: Path, key: str, admin_key: str, new_key: str) -> str:
    """Keys are asked for, admin routes take the admin key alone, and a key added to the directory counts at once."""
    body = chat("Hello.", 1)
    wanted = {
        ("without a key", "", "/v1/chat/completions"): UNAUTHORIZED,
        ("with a wrong key", "wrong", "/v1/chat/completions"): UNAUTHORIZED,
        ("with a key", key, "/v1/chat/completions"): OK,
        ("with a key", key, ADMIN_ROUTE): UNAUTHORIZED,
        ("with the admin key", admin_key, ADMIN_ROUTE): OK,
    }
    for (who, secret, path), status in wanted.items():
        _require_status(f"{path} {who}", Client(url, secret).request("POST", path, body), status)
    _require_status("/health without a key", Client(url).request("GET", "/health"), OK)
    _require_hidden(Client(url, key).request("GET", "/server_info").text, (key, admin_key))
    (keys_dir / "added").write_text(new_key)
    added = Client(url, new_key)
    took = wait_for(
        lambda: added.request("GET", "/v1/models").status_code == OK, RELOAD_SECONDS, "an added key is not accepted"
    )
    return f"{len(wanted) + 1} cases; an added key counts after {took:.1f} s"


def _require_status(what: str, response: httpx.Response, status: int) -> None:
    if response.status_code != status:
        raise Failed(f"{what} answers {response.status_code}, not {status}: {response.text[:200]}")


def _require_hidden(text: str, secrets: tuple[str, ...]) -> None:
    if any(secret in text for secret in secrets):
        raise Failed("/server_info shows a key")


def drain(endpoint: Endpoint, client: Client) -> str:
    """An endpoint told to stop finishes its running stream, then ends in order."""
    tokens = max(64, min(ENDLESS, int(tokens_per_second(client) * DRAINED_STREAM_SECONDS)))
    with client.stream(chat("Go on.", tokens)) as events:
        first = next(events)
        began = time.monotonic()
        stopping = _stop_beside(endpoint, events)
        _require_complete([first, *stopping])
    return f"a stream of {tokens} tokens finished during the stop, which took {time.monotonic() - began:.1f} s"


def _stop_beside(endpoint: Endpoint, events: Iterator[str]) -> list[str]:
    """Tell the endpoint to stop, read the stream to its end, then wait for the endpoint's."""
    endpoint.interrupt()
    rest = list(events)
    code = endpoint.wait_ended()
    if code != 0:
        raise Failed(f"the runner ended with code {code}", endpoint.tail())
    return rest


def _require_complete(events: list[str]) -> None:
    if events[-1] != DONE or finish_reason(events) != "length":
        raise Failed(f"a stream was cut: it ends with {events[-1][:200]!r}, finish_reason {finish_reason(events)!r}")


def nothing_left(endpoint: Endpoint, free_before: tuple[int, ...], free_after: Callable[[], tuple[int, ...]]) -> str:
    """After its end no process of the endpoint lives, and the accelerators have their memory back."""
    if endpoint.is_running:
        raise Skipped("the endpoint has not ended")
    if left := endpoint.descendants():
        raise Failed(f"processes are left: {', '.join(map(_command, left))}")
    lost = [(before - after) / 2**20 for before, after in zip(free_before, free_after(), strict=True)]
    if any(mib > LOST_MIB for mib in lost):
        raise Failed(
            f"accelerator memory is not free again: {', '.join(f'{mib:.0f} MiB' for mib in lost)} less than before"
        )
    return "no process" + (", no accelerator memory" if lost else "")


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")[:100]


def greedy_tokens(client: Client, adapter: str | None = None, tokens: int = COMPARED_TOKENS) -> list[int]:
    """What the model says first, token by token; through an adapter, if it is given."""
    sampling = {"temperature": 0, "max_new_tokens": tokens, "ignore_eos": True}
    body = {"text": "The capital of France is", "sampling_params": sampling, "lora_path": adapter}
    answer = client.value("POST", "/generate", body)
    return [int(token) for token in answer["output_ids"]]


def adapters(client: Client, names: Sequence[str]) -> str:
    """Adapters are models of the API beside theirs, and each has something else to say, the same alone and in a batch
    with the others: there the kernels have them to tell apart.
    """
    models = [NAME, *names]
    if (listed := {one["id"] for one in client.value("GET", "/v1/models")["data"]}) != set(models):
        raise Failed(f"/v1/models lists {sorted(listed)}, not {sorted(models)}")
    for model in models:
        client.value("POST", "/v1/chat/completions", {**chat("Hello.", 1), "model": model})
    alone = {model: greedy_tokens(client, _adapter(model))[:SURE_TOKENS] for model in models}
    if len({tuple(tokens) for tokens in alone.values()}) < len(models):
        raise Failed(f"two of them say the same tokens: {alone}")
    if (together := _together(client, models)) != alone:
        raise Failed(f"alone they say the tokens {alone}, in one batch {together}")
    return f"{len(names)} adapters and their model say {len(models)} different things, alone and in one batch"


def _together(client: Client, models: Sequence[str]) -> dict[str, list[int]]:
    """How the answers begin that all of them make at the same time."""
    with ThreadPoolExecutor(len(models)) as pool:
        asked = {model: pool.submit(greedy_tokens, client, _adapter(model), BATCH_TOKENS) for model in models}
        wait_for(lambda: client.running() >= len(models), FREED_SECONDS, "requests for all do not run side by side")
        return {model: answer.result()[:SURE_TOKENS] for model, answer in asked.items()}


def _adapter(model: str) -> str | None:
    return None if model == NAME else model


def parallel(client: Client, wanted: ParallelArgs, of_one_rank: list[int]) -> str:
    """An engine over several accelerators answers like one: `of_one_rank` are the greedy tokens that one said."""
    detail: dict[str, Any] = client.value("GET", "/server_info")
    for name, size in wanted.server_args().items():
        if detail.get(name) != size:
            raise Failed(f"the engine has {name} {detail.get(name)}, not {size}")
    # SGLang gives each of its copies (data) or groups (attention_data) a request in turn.
    turns = wanted.data * (wanted.attention_data or 1)
    compared = {_compare_tokens(of_one_rank, greedy_tokens(client)) for _ in range(turns)}
    return f"{wanted.ranks} ranks; {', '.join(sorted(compared))}; {answers(client)}"


def _compare_tokens(one: list[int], several: list[int]) -> str:
    """Ranks add up in another order, and greedy decoding may leave the way late; wrong weights lead astray at once."""
    if not one:
        return "tokens not compared, for one rank gave none"
    same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, several, strict=False)))
    if same < SURE_TOKENS:
        raise Failed(f"one rank says the tokens {one}, several say {several}: the first {SURE_TOKENS} must be equal")
    return f"the first {same} of {len(one)} greedy tokens are those of one rank"
