"""The course of a run: start, show progress, ask or wait, stop in order. Returns the exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO

from sglang_operator.cli import view
from sglang_operator.cli.local_process import Event, LocalProcess, import_path
from sglang_operator.cli.local_spec import Machine
from sglang_operator.cli.machine import log_file
from sglang_operator.cli.view import View

EXIT_OK, EXIT_FAILED, EXIT_INTERRUPTED = 0, 3, 130
LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Session:
    """One endpoint to serve: its name, the runner's JSON object and where things are."""

    name: str
    spec: Mapping[str, Any]
    machine: Machine

    @property
    def log(self) -> Path:
        """Replaced by the next run of the same endpoint and port."""
        return log_file(self.name, self.machine.http_port)

    @property
    def serve_args(self) -> Mapping[str, Any]:
        """The application's args (`sglang_serve.args.ServeArgs`)."""
        args: Mapping[str, Any] = self.spec["serve_config"]["applications"][0]["args"]
        return args


class _Failed(Exception):  # noqa: N818 - ends the loop; its text was shown
    """A runner ended by itself."""


class _Running:
    """One runner with its view and its log."""

    def __init__(self, python: Path, session: Session, shown: View, *, follow: bool) -> None:
        self.session, self.view = session, shown
        self.process = LocalProcess(python, session.spec, session.log)
        self.url = ""  # set when it is ready
        self.ended = False
        self._log: BinaryIO | None = session.log.open("rb") if follow else None

    def look(self, seconds: float) -> None:
        """Show what happened, waiting for at most `seconds`. Raises _Failed when it failed or ended by itself."""
        event = self.process.next_event(seconds)
        if self._log and (text := self._log.read()):
            self.view.note(text.decode(errors="replace").rstrip("\n"))
        if event:
            self._take(event)
        self.view.tick()

    def _take(self, event: Event) -> None:
        match event["event"]:
            case "progress":
                self.view.step(event["step"], event["message"])
            case "ready":
                self.url = event["url"]
                self.view.finish()
            case "status":
                self.view.note(f"now {event['status']}: {event['message']}")
            case "failed":
                self.view.note(view.failure(event, self.session.log))
                raise _Failed
            case "ended":
                self.ended = True
                self.view.note(f"error: the runner ended with code {event['code']}\n  log: {self.session.log}")
                raise _Failed


def serve(python: Path, sessions: Sequence[Session], *, once: str | None, follow: bool) -> int:
    """Serve until Ctrl-C, or until `once` is answered. Returns the exit code; nothing runs any more then."""
    signal.signal(signal.SIGTERM, _interrupt)
    running: list[_Running] = []
    try:
        return _serve(python, sessions, running, once=once, follow=follow)
    except KeyboardInterrupt:  # while they end
        _stop_at_once(running)
        return EXIT_INTERRUPTED


def _serve(
    python: Path, sessions: Sequence[Session], running: list[_Running], *, once: str | None, follow: bool
) -> int:
    with ExitStack() as stack:
        try:
            for session in sessions:
                shown = View(sys.stderr, session.name if len(sessions) > 1 else "")
                running.append(_Running(python, session, shown, follow=follow))
                stack.enter_context(running[-1].process)
            return _course(python, running, once)
        except _Failed:
            return EXIT_FAILED
        except KeyboardInterrupt:
            _stop(running)
            return EXIT_INTERRUPTED


def _course(python: Path, running: Sequence[_Running], once: str | None) -> int:
    while not all(one.url for one in running):
        _look(running)
    if once is not None:
        return _ask(python, running[0], once)
    for one in running:
        one.view.note(_ready_text(one))
    while True:
        _look(running)


def _look(running: Sequence[_Running]) -> None:
    for one in running:
        one.look(LOOK_SECONDS / len(running))


def _ready_text(one: _Running) -> str:
    session = one.session
    return "\n".join(
        [
            f"ready    {one.url}/v1",
            f"try      {view.curl(one.url, session.serve_args, session.machine.keys_dir)}",
            f"log      {session.log}",
            "stop     Ctrl-C",
        ]
    )


def _ask(python: Path, one: _Running, question: str) -> int:
    """Ask in the engine environment, which has the `openai` client; the answer goes to our stdout as it comes."""
    serve_args = one.session.serve_args
    command = [python, "-m", "sglang_serve.local.ask", one.url, serve_args["model"]["served_name"], question]
    env = {**os.environ, **import_path(), "OPENAI_API_KEY": _any_key(one.session.machine.keys_dir)}
    asked = subprocess.run(command, env=env, check=False)
    if asked.returncode:
        one.view.note(f"error: the question was not answered\n  log: {one.session.log}")
    return EXIT_FAILED if asked.returncode else EXIT_OK


def _any_key(keys_dir: Path | None) -> str:
    """The first key of the directory, by name, as the replica reads them; "none" where no key is needed."""
    files = sorted(path for path in keys_dir.iterdir() if path.is_file()) if keys_dir else []
    keys = (path.read_text().strip() for path in files if not path.name.startswith("."))
    return next(filter(None, keys), "none")


def _stop(running: Sequence[_Running]) -> None:
    """Stop in order and show it; another Ctrl-C ends all at once."""
    for one in running:
        one.process.interrupt()
    try:
        for one in running:
            _wait_ended(one)
    except KeyboardInterrupt:
        for one in running:
            one.process.interrupt()
            one.view.note("stopping at once")


def _stop_at_once(running: Sequence[_Running]) -> None:
    """By force, in seconds; nothing may interrupt that."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    for one in running:
        one.view.note("stopping at once")
        one.process.close(0)


def _wait_ended(one: _Running) -> None:
    while not one.ended:
        event = one.process.next_event(LOOK_SECONDS)
        one.view.tick()
        if event and event["event"] == "ended":
            one.ended = True
        elif event and event.get("step") == "stop":
            one.view.step("stop", f"{event['message']} (Ctrl-C again: at once)")
    one.view.finish()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """SIGTERM ends a run as Ctrl-C does."""
    raise KeyboardInterrupt
