"""The same requests to `sglang.launch_server` and to our endpoint must get the same answers.

Same means: status, content type, and body but for what differs between any two runs of one server (ids, times). Text is
compared too, but reported only: two GPU runs may round differently, and greedy decoding then takes another way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from sglang_serve.conformance.client import DONE, Client, chat
from sglang_serve.conformance.config import NAME
from sglang_serve.conformance.outcome import Failed

VOLATILE = frozenset({"id", "created", "created_at", "rid", "cached_tokens", "weight_version", "timestamp"})
VOLATILE_ENDS = ("_time", "_ts", "_latency", "_throughput")
SHOWN = 600  # characters of a body in the report
PROMPT = "The capital of France is"


@dataclass(frozen=True)
class Ask:
    """One request."""

    name: str
    path: str
    body: Any = None  # text is sent as it is
    method: str = "POST"


@dataclass(frozen=True)
class Answer:
    """Of one request: what must be the same, and the text that may differ."""

    status: int
    content_type: str
    body: Any


def requests() -> tuple[Ask, ...]:
    """One of each kind; the project's own parity test on CPU sends many more."""
    short = chat(PROMPT, 8)
    completion = {"model": NAME, "prompt": PROMPT, "max_tokens": 8, "temperature": 0, "ignore_eos": True}
    native = {"text": PROMPT, "sampling_params": {"temperature": 0, "max_new_tokens": 8, "ignore_eos": True}}
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    return (
        Ask("models", "/v1/models", method="GET"),
        Ask("chat", "/v1/chat/completions", short),
        Ask("chat, streamed", "/v1/chat/completions", {**short, "stream": True}),
        Ask("chat, n=2", "/v1/chat/completions", {**short, "n": 2}),
        Ask("chat, logprobs", "/v1/chat/completions", {**short, "logprobs": True, "top_logprobs": 2}),
        Ask("chat, json_schema", "/v1/chat/completions", {**short, "ignore_eos": False, "response_format": form}),
        Ask("completion", "/v1/completions", completion),
        Ask("completion, streamed with usage", "/v1/completions",
            {**completion, "stream": True, "stream_options": {"include_usage": True}}),
        Ask("generate", "/generate", native),
        Ask("generate, streamed", "/generate", {**native, "stream": True}),
        Ask("tokenize", "/tokenize", {"model": NAME, "prompt": PROMPT}),
        Ask("model that is not served", "/v1/chat/completions", {**short, "model": "another"}),
        Ask("embeddings of a generating model", "/v1/embeddings", {"model": NAME, "input": PROMPT}),
        Ask("no JSON", "/v1/chat/completions", "{"),
        Ask("wrong type", "/v1/chat/completions", {**short, "max_tokens": "many"}),
        Ask("no messages", "/v1/chat/completions", {"model": NAME}),
        Ask("longer than the context", "/v1/chat/completions", {**short, "max_tokens": 100_000_000}),
        Ask("unknown route", "/v1/nothing", {}),
        Ask("wrong method", "/v1/chat/completions", method="GET"),
    )  # fmt: skip


def ask_all(client: Client) -> dict[str, Answer]:
    """Every answer by the name of its request, asked one after the other."""
    return {one.name: _ask(client, one) for one in requests()}


def _ask(client: Client, one: Ask) -> Answer:
    headers = {"content-type": "application/json"} if isinstance(one.body, str) else {}
    response = client.request(one.method, one.path, one.body, headers=headers)
    content_type = response.headers.get("content-type", "").partition(";")[0]
    return Answer(response.status_code, content_type, _body(content_type, response.text))


def _body(content_type: str, text: str) -> Any:
    if content_type == "text/event-stream":
        return _events(text)
    try:
        return normal(json.loads(text))
    except ValueError:
        return text


def _events(text: str) -> dict[str, Any]:
    """A stream as the shapes of its events and its whole text: how many tokens share an event depends on timing."""
    data = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    values = [normal(json.loads(one)) for one in data if one != DONE]
    shapes = {json.dumps(shape(value), sort_keys=True): True for value in values}
    return {"events": {**shapes, "ends with [DONE]": DONE in data[-1:]}, "text": "".join(map(_delta, values))}


def _delta(event: Any) -> str:
    """New text of an OpenAI event; the native route repeats the whole text, of which the end says all."""
    choices = event.get("choices", []) if isinstance(event, Mapping) else []
    parts = [choice.get("text") or (choice.get("delta") or {}).get("content") or "" for choice in choices]
    return "".join(parts)


def normal(value: Any) -> Any:
    """`value` without what differs between two runs of one server: such values become the name of their type."""
    if isinstance(value, Mapping):
        return {name: type(one).__name__ if _is_volatile(name) else normal(one) for name, one in value.items()}
    return [normal(one) for one in value] if isinstance(value, list) else value


def shape(value: Any) -> Any:
    """`value` with every leaf but true and false replaced by its type; a list is the set of its elements' shapes."""
    if isinstance(value, Mapping):
        return {name: shape(one) for name, one in value.items()}
    if isinstance(value, list):
        return sorted({json.dumps(shape(one), sort_keys=True) for one in value})
    if isinstance(value, bool):
        return value
    return "number" if isinstance(value, int | float) else type(value).__name__


def compare(native: Mapping[str, Answer], ours: Mapping[str, Answer]) -> str:
    """A sentence about what is the same; raises Failed with every difference that a client could trip over."""
    differences = [text for name in native if (text := _difference(name, native[name], ours[name]))]
    if differences:
        what = f"{len(differences)} of {len(native)} requests are answered otherwise than by the native server"
        raise Failed(what, "\n".join(differences))
    same = sum(native[name].body == ours[name].body for name in native)
    return f"{len(native)} requests: same status, type and shape; same content in {same}"


def _difference(name: str, native: Answer, ours: Answer) -> str:
    for what in ("status", "content_type"):
        left, right = getattr(native, what), getattr(ours, what)
        if left != right:
            return f"{name}: {what} is {left} natively, {right} here: {_show(ours.body)}"
    if shape(native.body) != shape(ours.body):
        return f"{name}: the body is {_show(native.body)} natively, {_show(ours.body)} here"
    if native.status >= HTTPStatus.BAD_REQUEST and native.body != ours.body:
        return f"{name}: the error is {_show(native.body)} natively, {_show(ours.body)} here"
    return ""


def _show(body: Any) -> str:
    return json.dumps(body)[:SHOWN]


def _is_volatile(name: str) -> bool:
    return name in VOLATILE or name.endswith(VOLATILE_ENDS)
