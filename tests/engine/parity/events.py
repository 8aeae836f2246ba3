"""Streams: split into events, and merged so that two of them can be compared.

How many tokens one event carries depends on which process was scheduled first. So consecutive events of one shape
become one, with their texts joined; what remains is the order of shapes and the whole text. The choices of `n` run at
the same time, so each is a stream of its own.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from typing import Any

from engine.parity.ask import Answer

# Values that grow over a stream by pieces; all others are repeated or replaced.
PIECES = {
    "content", "text", "reasoning_content", "arguments", "delta", "partial_json", "response",
    "tokens", "token_logprobs", "top_logprobs", "text_offset", "logprobs",
}  # fmt: skip
DONE = "[DONE]"


def events_of(answer: Answer) -> list[Any]:
    """What was sent, event by event: the data as JSON, under the event's name where it has one."""
    if answer.is_event_stream:
        return [_parse_event(block) for block in answer.body.decode().split("\n\n") if block]
    return [json.loads(line) for line in answer.body.splitlines()]  # Ollama: JSON lines


def _parse_event(block: str) -> Any:
    fields = [line.partition(": ")[::2] for line in block.split("\n")]
    data = "\n".join(value for name, value in fields if name == "data")
    value = data if data == DONE else json.loads(data)
    rest = {name: value for name, value in fields if name != "data"}
    return {**rest, "data": value} if rest else value


def merged(events: Iterable[Any], *, cumulative: bool) -> list[Any]:
    """Consecutive events of one shape as one, choice by choice. `cumulative`: each event repeats the text so far."""
    by_choice = sorted(map(_with_text, events), key=_choice)  # stable: the order within a choice stays
    groups = itertools.groupby(by_choice, key=lambda event: (_choice(event), json.dumps(_shape(event))))
    return [_merge_all(list(group), cumulative) for _, group in groups]


def _with_text(event: Any) -> Any:
    """SGLang leaves a delta's text out of an event whose only token is half a character, and keeps the logprob of it.

    Where the next token comes in the same event, there is no event without text.
    """
    choices = event.get("choices") if isinstance(event, dict) else None
    if not choices or not choices[0].get("logprobs") or "delta" not in choices[0]:
        return event
    (choice,) = choices
    return {
        **event,
        "choices": [{**choice, "delta": {**choice["delta"], "content": choice["delta"].get("content", "")}}],
    }


def _choice(event: Any) -> int:
    """Which of the answers asked for by `n` (or by several prompts) it belongs to; the end of the stream comes last."""
    if not isinstance(event, dict):
        return 1_000_000
    choices = event.get("choices")
    if isinstance(choices, list):
        return int(choices[0]["index"]) if choices else 999_999  # usage comes after all choices
    return int(event.get("index", 0)) if isinstance(event.get("index", 0), int) else 0


def _shape(value: Any) -> Any:
    """Its structure without its contents. Logprobs are keyed by token, so their keys are contents."""
    if isinstance(value, dict):
        return {key: "…" if key in PIECES and not isinstance(one, dict) and one is not None else _shape(one)
                for key, one in value.items()}  # fmt: skip
    if isinstance(value, list):
        return [_shape(one) for one in value]
    return type(value).__name__


def _merge_all(events: list[Any], cumulative: bool) -> Any:
    if cumulative:
        return events[-1]
    result = events[0]
    for event in events[1:]:
        result = _merge(result, event)
    return result


def _merge(before: Any, after: Any) -> Any:
    if isinstance(before, dict) and isinstance(after, dict):
        return {key: _merge_field(key, before[key], after[key]) for key in after}
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [_merge(old, new) for old, new in zip(before, after, strict=True)]
    return after


def _merge_field(key: str, before: Any, after: Any) -> Any:
    if key in PIECES and isinstance(before, str) and isinstance(after, str):
        return before + after
    if key in PIECES and isinstance(before, list) and isinstance(after, list):
        return before + after
    return _merge(before, after)
