"""The part of a replica on one node: its directory, the model's files, SGLang's processes. Most replicas have one."""

from __future__ import annotations

import gc
import os
import shutil
import socket
import traceback
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sglang_serve import adapter_files, args, backoff, collector, commit, health, leftovers, models, ports
from sglang_serve.engine_args import Place, engine_args, engine_environment
from sglang_serve.errors import StartError, classify, first_child_error
from sglang_serve.progress import Progress, bytes_read, loading, log_line, write_line
from sglang_serve.request_log import Origin

if TYPE_CHECKING:
    from sglang_serve.sglang_private import Engine


class Part:
    """`name` is unique among the parts of this machine, `node` its number among those of its replica."""

    def __init__(self, serve_args: args.ServeArgs, name: str, env: Mapping[str, str], node: int = 0) -> None:
        self.commit = ""
        """Of the hub's repository, once it is known; a model from elsewhere has none."""
        self.origin = Origin(serve_args.endpoint, serve_args.revision, name)
        self._args = serve_args
        self._env = env
        self._node = node
        self._path = Path()
        self._is_ready = False
        self._port: socket.socket = ports.claim_port()
        self.state = Path(env.get(args.ENV_STATE_DIR, args.DEFAULT_STATE_DIR))
        self.directory = leftovers.claim(self.state, name)
        self.progress = Progress(self.directory.path, write_line, **vars(self.origin))

    @property
    def rendezvous_port(self) -> int:
        """Where ranks find each other, those of other nodes too."""
        return int(self._port.getsockname()[1]) + ports.RENDEZVOUS

    def wait(self) -> float:
        """Seconds to wait before this try, told to whoever follows it."""
        seconds = backoff.seconds_before_start(self.state)
        if seconds:
            failures = backoff.failed_starts(self.state)
            self.progress.report("backoff", f"trying again in {seconds:.0f} s; {failures} starts have failed in a row")
        return seconds

    def ready(self, what: str = "answering requests") -> None:
        """It does its work: the next failure here is the first again."""
        backoff.note_success(self.state)
        self.progress.report("ready", what)
        self._is_ready = True

    def say_of_adapters(self, what: str) -> None:
        """Until it is ready they are a step of its start, then news."""
        if self._is_ready:
            write_line(log_line("adapter", **vars(self.origin), message=what))
        else:
            self.progress.report("adapters", what)

    def resolve(self, commits: commit.Store, told: str = "") -> None:
        """Find out which commit this Ray cluster serves. `told`: what an earlier one of the same revision has served.
        Raises StartError."""
        say = partial(self.progress.report, "model")
        self.commit = told
        self.commit = commit.agreed(commits, self._args, lambda: models.resolve(self._wanted, self._env, say))

    def fetch(self) -> Path:
        """The directory of the model, once it is here. Raises StartError."""
        say = partial(self.progress.report, "model")
        say(f"looking for {self._args.model.uri}")
        self._path = models.fetch(self._wanted, self._env, say)
        return self._path

    @property
    def _wanted(self) -> models.Wanted:
        model = self._args.model
        return models.Wanted(model.uri, model.revision, self.commit, self._args.load_format)

    def fetch_adapter(self, adapter: args.AdapterArgs) -> Path:
        """The directory of an adapter, once it is here and fits the model. Raises StartError, NotAnAdapterError."""
        path = models.fetch(
            models.Wanted(adapter.uri, adapter.revision),
            self._env,
            lambda what: self.say_of_adapters(f"adapter {adapter.name}: {what}"),
        )
        rank, targets = (lora.max_rank, lora.target_modules) if (lora := self._args.lora) else (0, ())
        adapter_files.require_fit(path, self._path, rank, targets)
        return path

    def load(self, path: Path, rendezvous: str = "") -> Engine:
        """Start SGLang's processes; returns when those of all nodes have loaded. Raises what SGLang raises."""
        self.progress.report("load", f"starting the engine with {path}")
        self._prepare_process()
        with collector.seldom():
            from sglang_serve.sglang_private import Engine  # noqa: PLC0415 - reads the environment; 10 s of imports

        place = Place(self._port.getsockname()[1], self._node, rendezvous, self._nccl_port)
        with loading(partial(self.progress.report, "load"), bytes_read):
            return Engine(engine_args(self._args, path, place), self.directory.errors)

    @property
    def _nccl_port(self) -> int | None:
        """Data-parallel copies would all bind the same one (SGLang 0.5.23): each has its own drawn."""
        return self.rendezvous_port if self._args.parallelism.data == 1 else None

    def _prepare_process(self) -> None:
        cores, has_compiler = sorted(os.sched_getaffinity(0)), shutil.which("g++") is not None
        for name, value in engine_environment(self._args, cores, has_compiler=has_compiler).items():
            os.environ.setdefault(name, value)  # the pod's own, from spec.engine.env, count more
        leftovers.use_for_temporary_files(self.directory)
        health.survive_quit_signals()

    def failed(self, error: BaseException) -> StartError:
        """The reason why it could not start: reported, and all that is left of it."""
        # What is left of an engine must stay uncollected: of a ZeroMQ context and its open sockets that are garbage
        # together, the collector may end the context first, and that waits for its sockets forever.
        gc.freeze()
        health.kill_children()  # whatever fails below, on a disk that is full, no process may keep an accelerator
        traceback.print_exception(error)  # into the log; status and Serve's message get one line
        failure = classify(error, first_child_error(self.directory.errors))
        self.progress.report("failed", failure.message, reason=failure.reason, remedy=failure.remedy)
        self.directory.remove_all_but_progress()
        backoff.note_failure(self.state)  # last: by now there may be room for it
        return failure

    def why_ended(self, what: str) -> StartError:
        """Why a process of a running engine has ended, in its own words if it left any."""
        return classify(RuntimeError(what), first_child_error(self.directory.errors))
