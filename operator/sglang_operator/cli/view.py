"""What a run shows: one line for each step, on a terminal with the seconds running."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

CLEAR_LINE = "\r\x1b[2K"
QUESTION = "What is the capital of France?"
ANSWERS = ["Paris", "Rome"]
REQUESTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "generate": ("/v1/chat/completions", {"messages": [{"role": "user", "content": QUESTION}]}),
    "embed": ("/v1/embeddings", {"input": QUESTION}),
    "rerank": ("/v1/rerank", {"query": QUESTION, "documents": ANSWERS}),
    "score": ("/v1/score", {"query": QUESTION, "items": ANSWERS, "label_token_ids": [0, 1], "apply_softmax": True}),
    "classify": ("/v1/classify", {"input": QUESTION}),
}
"""A first request of each task; transcribe sends a file instead."""


class View:
    """Writes progress to a terminal or a file. `prefix` tells several endpoints apart."""

    def __init__(self, out: TextIO, prefix: str = "") -> None:
        self._out = out
        self._live = out.isatty() and not prefix  # several endpoints would write over each other's line
        self._prefix = f"{prefix}: " if prefix else ""
        self._step = ""  # what runs now, "" if nothing does
        self._began = time.monotonic()

    def step(self, name: str, message: str) -> None:
        """A new step begins, the one before it is over. Several replicas take the same step: it is shown once."""
        text = f"{self._prefix}{name:<8} {message}"
        if text == self._step:
            return
        self.finish()
        self._step, self._began = text, time.monotonic()
        if not self._live:
            self._out.write(f"{self._step}\n")
        self.tick()

    def tick(self) -> None:
        """Show how long the step takes."""
        if self._live and self._step:
            self._out.write(f"{CLEAR_LINE}{self._step}  {self._seconds()}")
            self._out.flush()

    def finish(self) -> None:
        """The step that runs is over."""
        if self._live and self._step:
            self._out.write(f"{CLEAR_LINE}{self._step}  {self._seconds()}\n")
        self._step = ""
        self._out.flush()

    def note(self, text: str) -> None:
        """Something beside the steps."""
        self.finish()
        self._out.write(f"{self._prefix}{text}\n")
        self._out.flush()

    def _seconds(self) -> str:
        return f"{time.monotonic() - self._began:.0f} s"


def failure(event: Mapping[str, Any], log: Path) -> str:
    """The text of a "failed" event: what happened, what to do, where to read more."""
    lines = [f"error: {event['message']} ({event['reason']})"]
    if event.get("remedy"):
        lines.append(f"  remedy: {event['remedy']}")
    if log.stat().st_size:
        lines.append(f"  log: {log}")
    return "\n".join(lines)


def curl(url: str, serve_args: Mapping[str, Any], keys_dir: Path | None) -> str:
    """A command that asks the endpoint something, to be copied into a shell."""
    model = serve_args["model"]["served_name"]
    key = f' -H "Authorization: Bearer $(cat {keys_dir}/KEY)"' if serve_args.get("require_keys") else ""
    if serve_args["task"] == "transcribe":
        return f"curl {url}/v1/audio/transcriptions{key} -F model={model} -F file=@speech.wav"
    path, body = REQUESTS[serve_args["task"]]
    data = json.dumps({"model": model, **body})
    return f"curl {url}{path} -H 'Content-Type: application/json'{key} -d '{data}'"
