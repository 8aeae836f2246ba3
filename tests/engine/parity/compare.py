"""What differs between two answers, beyond what differs between any two answers of one server."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from engine.parity.ask import Answer, Ask
from engine.parity.events import events_of, merged

# Of every answer anew: names, times, and what depends on the requests that came before (health checks among them).
VOLATILE = {
    "id", "rid", "created", "created_at", "completed_at", "modified_at", "timestamp", "sequence_number", "call_id",
    "item_id", "response_id", "digest", "e2e_latency", "queue_time", "prefill_launch_delay", "prefill_launch_latency",
    "response_sent_to_client_ts", "request_received_ts", "total_duration", "load_duration", "prompt_eval_duration",
    "eval_duration", "cached_tokens", "cached_tokens_details", "decode_throughput",
    "last_gen_throughput", "memory_usage", "startup_time", "event_id",
    "operationId",  # FastAPI puts the first of a set of methods into it: another one in each process
}  # fmt: skip
CLOCK = re.compile(r"\[\d\d:\d\d:\d\d\]")  # xgrammar begins its messages with the time
ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")  # each has its own port, and redirects to itself
VOLATILE_HEADERS = {"date", "content-length", "connection"}
# Counters of all that went through the engine: only their names and types can be the same.
COUNTER_PATHS = ("/v1/loads",)
# Prometheus series: of each its name and labels, without what native and this test ask by HTTP until a server is up,
# and without a path that no route takes, which is `path-labels` of allowed.py.
SERIES_PATHS = ("/metrics", "/metrics/")
PID = re.compile(r'pid="\d+"')
ASKED_BEFORE = re.compile(r'endpoint="(/freeze_gc|/generate|/health|/model_info|/v1/chat/completions/|no route)"')
# Each event repeats the whole text so far.
CUMULATIVE_PATHS = ("/generate", "/vertex_generate")


def differences(ask: Ask, native: Answer, served: Answer) -> list[str]:
    """One line per difference, none if the two are the same."""
    found = [] if native.status == served.status else [f"status: native {native.status}, served {served.status}"]
    found += _diff("header", _headers(native), _headers(served))
    bodies = contents(ask, native), contents(ask, served)
    return found + list(_diff_sets(*bodies) if ask.path in SERIES_PATHS else _diff("body", *bodies))


def _diff_sets(native: list[str], served: list[str]) -> Iterator[str]:
    yield from (f"series of native alone: {name}" for name in native if name not in served)
    yield from (f"series served alone: {name}" for name in served if name not in native)


def is_unsteady(ask: Ask, natives: Sequence[Answer]) -> bool:
    """Whether ours came to native's answer only after more than one repetition, while native said the same each time.

    `natives` are native's answers to one stream: the first, and one for each repetition. Where they differ among
    themselves, chance explains the difference; where they do not, the chance is ours.
    """
    first, *again = natives
    return len(again) > 1 and not any(differences(ask, first, one) for one in again)


def contents(ask: Ask, answer: Answer) -> Any:
    """The body as a value; a stream as its merged events."""
    if ask.stream and answer.status == 200:
        return merged(masked(events_of(answer)), cumulative=ask.path in CUMULATIVE_PATHS)
    if ask.path in SERIES_PATHS:
        series = {PID.sub('pid="pid"', line.rpartition(" ")[0]) for line in answer.body.decode().splitlines()}
        return sorted(name for name in series if not ASKED_BEFORE.search(name))
    value = masked(answer.value())
    return _without_numbers(value) if ask.path in COUNTER_PATHS else value


def masked(value: Any) -> Any:
    """Volatile values replaced by their types."""
    if isinstance(value, dict):
        return {key: _type_of(one) if key in VOLATILE else masked(one) for key, one in value.items()}
    if isinstance(value, list):
        return [masked(one) for one in value]
    return CLOCK.sub("[time]", value) if isinstance(value, str) else value


def _without_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_numbers(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_numbers(one) for one in value]
    return _type_of(value) if isinstance(value, (int, float)) else value


def _type_of(value: Any) -> str:
    return f"<{'number' if isinstance(value, (int, float)) else type(value).__name__}>"


def _headers(answer: Answer) -> dict[str, str]:
    kept = {name: value for name, value in answer.headers.items() if name not in VOLATILE_HEADERS}
    return {name: ADDRESS.sub("http://server", value) for name, value in kept.items()}


def _diff(path: str, native: Any, served: Any) -> Iterator[str]:
    if isinstance(native, dict) and isinstance(served, dict):
        for key in sorted({*native, *served}):
            yield from _diff(f"{path}.{key}", native.get(key, "(absent)"), served.get(key, "(absent)"))
    elif isinstance(native, list) and isinstance(served, list) and len(native) == len(served):
        for index, (old, new) in enumerate(zip(native, served, strict=True)):
            yield from _diff(f"{path}[{index}]", old, new)
    elif not _same(native, served):
        yield f"{path}: native {_short(native)}, served {_short(served)}"


def _same(native: Any, served: Any) -> bool:
    if isinstance(native, float) and isinstance(served, float):  # another batch rounds differently
        return math.isclose(native, served, rel_tol=1e-3, abs_tol=1e-4)
    return bool(native == served)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]}…"
