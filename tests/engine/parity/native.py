"""SGLang's own server, as its users start it."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import psutil

from sglang_serve.leftovers import shared_memory_removed
from sglang_serve.local.ports import free_port

START_SECONDS = 600  # cold caches on two busy cores
POLL_SECONDS = 0.3
STOP_SECONDS = 20
LOG_LINES = 40
LINE_LENGTH = 300  # SGLang prints all its arguments in one line


class NativeServer:
    """`python -m sglang.launch_server` while the `with` block runs. `arguments` by their field names."""

    def __init__(self, python: Path, model: Path, arguments: Mapping[str, Any]) -> None:
        self._port = free_port()
        own = {"model_path": model, "host": "127.0.0.1", "port": self._port, "device": "cpu"}
        self._command = [str(python), "-m", "sglang.launch_server", *_flags({**own, **arguments})]
        self._scratch = tempfile.TemporaryDirectory(prefix="native-")  # SGLang leaves files of its own
        self._log = Path(self._scratch.name) / "log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        own = {"SGLANG_USE_CPU_ENGINE": "1", "HF_HUB_OFFLINE": "1", "TMPDIR": self._scratch.name}
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                self._command, env={**os.environ, **own}, stdout=log, stderr=log, start_new_session=True
            )
        try:
            self._wait()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _wait(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            if self._is_up():
                return
            time.sleep(POLL_SECONDS)
        lines = self._log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        log = "\n".join(line[:LINE_LENGTH] for line in lines)
        raise AssertionError(f"native SGLang did not start: exit code {self._process.poll()}\n{log}")

    def _is_up(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=30, trust_env=False).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            _end(psutil.Process(self._process.pid))
            self._process.wait()
        self._scratch.cleanup()


def _end(root: psutil.Process) -> None:
    """SIGTERM lets SGLang end its children; what is left after that is killed. Its shared memory it leaves itself."""
    family = [root, *root.children(recursive=True)]
    with shared_memory_removed([one.pid for one in family]):
        root.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(family, timeout=STOP_SECONDS)
        for process in alive:
            process.kill()
        psutil.wait_procs(alive, timeout=STOP_SECONDS)


def _flags(arguments: Mapping[str, Any]) -> list[str]:
    """Field names and values as command-line flags; False is the absence of a flag."""
    flags: list[str] = []
    for name, value in arguments.items():
        flag = "--" + name.replace("_", "-")
        flags += [flag] if value is True else [] if value is False else [flag, str(value)]
    return flags
