"""`ServeApp`: a real engine behind a real Ray Serve, from an SGLangEndpoint, by the product's renderer and runner."""

from __future__ import annotations

import copy
import os
import re
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import psutil

from sglang_operator.api import parse_endpoint
from sglang_operator.cli.local_process import Event, LocalProcess
from sglang_operator.cli.local_spec import Machine, local_spec
from sglang_operator.render import render_endpoint
from sglang_serve.local.ports import free_port

START_SECONDS = 600  # cold caches on two busy cores
LOG_LINES = 100
NOISE = re.compile(r"\b(Prefill|Decode) batch\b|Ignore import error")

# Two CPU cores serve a toy model: small tables, and an idle scheduler that does not spin.
TINY_ENGINE = {"max_total_tokens": 4096, "max_running_requests": 64, "sleep_on_idle": True}


def endpoint(model: Path | str, name: str = "tiny", **spec: Any) -> dict[str, Any]:
    """An SGLangEndpoint for the CPU; `spec` adds to or replaces its parts by their YAML names."""
    uri = model if isinstance(model, str) else f"file://{model}"
    return {
        "apiVersion": "serve.sglang.io/v1alpha1",
        "kind": "SGLangEndpoint",
        "metadata": {"name": name},
        "spec": {
            "model": {"uri": uri, "servedName": name},
            "accelerator": {"vendor": "cpu"},
            "engine": {"args": dict(TINY_ENGINE)},
            **copy.deepcopy(spec),
        },
    }


class NotServing(AssertionError):  # noqa: N818 - what the application is
    """The application failed; the text has its events and the end of its log."""


class ServeApp:
    """Serves an endpoint while the `with` block runs.

        with ServeApp(endpoint(tiny_model), engine_python) as app:
            httpx.get(f"{app.url}/v1/models")

    `env` is added to the rendered pod's environment, `keys_dir` and `admin_key_file` stand in for Secrets, `port` 0
    takes a free one. `start` returns when requests are answered, or raises NotServing with the end of the log.
    """

    def __init__(
        self,
        manifest: Mapping[str, Any],
        engine_python: Path,
        *,
        port: int = 0,
        env: Mapping[str, str] | None = None,
        **machine: Any,
    ) -> None:
        self._machine = Machine(http_port=port or free_port(), environ=os.environ, **machine)
        self._spec = local_spec(render_endpoint(parse_endpoint(manifest)), self._machine)
        self._spec["env"] = {**self._spec["env"], "HF_HUB_OFFLINE": "1", **(env or {})}
        self._python = engine_python
        self._scratch = tempfile.TemporaryDirectory(prefix="serve-app-")
        self._process: LocalProcess | None = None
        self.events: list[Event] = []

    @property
    def url(self) -> str:
        """Without /v1."""
        return f"http://127.0.0.1:{self._machine.http_port}"

    @property
    def log(self) -> Path:
        """What Ray, Serve and the engine printed."""
        return Path(self._scratch.name) / "log"

    @property
    def serve_config(self) -> dict[str, Any]:
        """The deployed serveConfigV2; change it before `start` for settings that no field has."""
        config: dict[str, Any] = self._spec["serve_config"]
        return config

    def start(self, seconds: float = START_SECONDS) -> Self:
        """Start and wait until requests are answered."""
        self._process = LocalProcess(self._python, self._spec, self.log)
        try:
            self.wait_for("ready", seconds)
        except BaseException:
            self.stop(grace=0)
            raise
        return self

    def wait_for(self, name: str, seconds: float, **fields: Any) -> Event:
        """Read events until one is called `name` and has these fields. A failure before it, or none, raises."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            event = self._running.next_event(left)
            if event is None:
                break
            self.events.append(event)
            if event["event"] == name and all(event.get(key) == value for key, value in fields.items()):
                return event
            if event["event"] in {"failed", "ended"}:
                break
        raise NotServing(self.describe(f"no event {name!r} {fields or ''} within {seconds:.0f} s"))

    def describe(self, what: str) -> str:
        """`what`, the events, the processes, how a request is answered now, and the end of the log."""
        parts = {"events:": map(str, self.events), "now:": self._now(), f"log (last {LOG_LINES} lines):": self._tail()}
        return "\n".join([what, *(line for title, lines in parts.items() for line in (title, *lines))])

    def _now(self) -> list[str]:
        try:
            return [*map(command_line, self.processes()), f"GET /v1/models: {answer(self.url)}"]
        except (AssertionError, psutil.NoSuchProcess):
            return ["nothing runs"]

    def _tail(self) -> list[str]:
        """Of the log, without the line for each batch: a health check each second makes one."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return [line for line in lines if not NOISE.search(line)][-LOG_LINES:]

    def interrupt(self) -> None:
        """What Ctrl-C does; a second one ends at once."""
        self._running.interrupt()

    def stop(self, grace: float = 60) -> int | None:
        """End it and everything it started; returns the runner's exit code. Harmless when nothing runs."""
        if self._process is None:
            return None
        code = self._process.close(grace)
        self.read_events()
        self._process = None
        return code

    def read_events(self) -> None:
        """Take what has been said so far: `wait_for` finds later events only."""
        while event := self._running.next_event(0):
            self.events.append(event)

    def processes(self) -> list[psutil.Process]:
        """The runner and all below it: Ray, HAProxy, replicas, engines."""
        runner = psutil.Process(self._running.pid)
        return [runner, *runner.children(recursive=True)]

    def pids(self) -> list[int]:
        """Their pids."""
        return [process.pid for process in self.processes()]

    def find(self, text: str) -> list[psutil.Process]:
        """Those whose command line holds `text`, such as "sglang::scheduler" or "ServeReplica"."""
        return [process for process in self.processes() if text in command_line(process)]

    def named(self, name: str) -> list[psutil.Process]:
        """Those of this program, such as "raylet"."""
        return [process for process in self.processes() if program_of(process) == name]

    @property
    def _running(self) -> LocalProcess:
        assert self._process is not None, "not started"
        return self._process

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self._scratch.cleanup()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            print(self.describe(f"the application at the time of {error!r}"))
        self.stop()
        self._scratch.cleanup()


def command_line(process: psutil.Process) -> str:
    """Of a process that may be gone by now: then "" ."""
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""


def program_of(process: psutil.Process) -> str:
    """Of a process that may be gone by now: then "" ."""
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""


def answer(url: str) -> str:
    """Status and text of what is answered now, or why nothing is."""
    try:
        reply = httpx.get(f"{url}/v1/models", timeout=5)
    except httpx.HTTPError as error:
        return repr(error)
    return f"{reply.status_code} {reply.text[:500]}"
