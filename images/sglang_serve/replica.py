"""One replica from start to stop: model, engine, warm-up, app, health, clean end."""

from __future__ import annotations

import asyncio
import gc
import os
import traceback
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sglang_serve import args, asgi, auth, health, leftovers, models, ports, report
from sglang_serve.engine_args import engine_args, engine_environment
from sglang_serve.errors import classify, first_child_error
from sglang_serve.progress import Progress, log_line, write_line
from sglang_serve.request_log import Origin
from sglang_serve.routes import admin_matcher

if TYPE_CHECKING:
    from fastapi import FastAPI

    from sglang_serve.sglang_private import Engine


class Replica:
    """Everything of SGLangServer that is not Ray Serve's. `name` is unique among the replicas of this machine."""

    def __init__(self, serve_args: args.ServeArgs, name: str, env: Mapping[str, str], node_ip: str = "") -> None:
        self._args = serve_args
        self._node_ip = node_ip
        self._env = env
        self._live = args.LiveArgs()
        self._origin = Origin(serve_args.endpoint, serve_args.revision, name)
        self._directory = leftovers.claim(Path(env.get(args.ENV_STATE_DIR, args.DEFAULT_STATE_DIR)), name)
        self._progress = Progress(self._directory.path, write_line, **vars(self._origin))
        self._engine: Engine | None = None
        self._is_stopped = False

    async def start(self) -> None:
        """Load the model and answer one request. Raises StartError, and leaves nothing but its reason."""
        try:
            self._engine = await asyncio.to_thread(self._load)  # Serve asks meanwhile whether the replica lives
            await self._warm_up(self._engine)
        except Exception as error:  # noqa: BLE001 - whatever it was gets a reason
            # What is left of an engine must stay uncollected: of a ZeroMQ context and its open sockets that are garbage
            # together, the collector may end the context first, and that waits for its sockets forever.
            gc.freeze()
            traceback.print_exception(error)  # into the log; status and Serve's message get one line
            failure = classify(error, first_child_error(self._directory.errors))
            self._progress.report("failed", failure.message, reason=failure.reason, remedy=failure.remedy)
            health.kill_children()
            self._directory.remove_all_but_progress()
            raise failure from None

    def _load(self) -> Engine:
        self._progress.report("model", f"looking for {self._args.model.uri}")
        path = models.fetch(self._args.model, self._env, partial(self._progress.report, "model"))
        self._progress.report("load", f"starting the engine with {path}")
        self._prepare_process()
        from sglang_serve.sglang_private import Engine  # noqa: PLC0415 - reads the environment; 10 s of imports

        return Engine(engine_args(self._args, path, self._port.getsockname()[1]), self._directory.errors)

    def _prepare_process(self) -> None:
        for name, value in engine_environment(self._args, sorted(os.sched_getaffinity(0))).items():
            os.environ.setdefault(name, value)  # the pod's own, from spec.engine.env, count more
        leftovers.use_for_temporary_files(self._directory)
        health.ignore_quit_signals()
        self._port = ports.claim_port()

    async def _warm_up(self, engine: Engine) -> None:
        self._progress.report("warmup", "answering a first request")
        self._directory.note_shared_memory(engine.pids)
        await health.require_warm_up(engine)
        await engine.freeze_gc()
        health.on_exit(engine.pids, self._end_with_engine)

    def build_app(self) -> FastAPI:
        """SGLang's app with our middleware; Serve then runs its lifespan."""
        app = self._running.app()
        asgi.install(app, self._context(app))
        self._progress.report("ready", "answering requests")
        return app

    def _context(self, app: FastAPI) -> asgi.Context:
        from sglang_serve.sglang_private import is_admin_endpoint  # noqa: PLC0415 - as above

        policy = auth.policy_from(
            admin_matcher(app, is_admin_endpoint),
            require_keys=self._args.require_keys,
            keys_dir=self._env.get(args.ENV_KEYS_DIR, ""),
            admin=self._args.admin,
            admin_key_file=self._env.get(args.ENV_ADMIN_KEY_FILE, ""),
        )
        return asgi.Context(
            origin=self._origin,
            policy=policy,
            live=lambda: self._live,
            is_served=self._running.serves,
            write=write_line,
            replica=report.Replica(self._origin, self._node_ip, lambda: self._live.config_id, self.check_health),
        )

    def reconfigure(self, live: args.LiveArgs) -> None:
        """Take new settings; they count from the next request on."""
        self._live = live

    async def check_health(self) -> None:
        """Raise Unhealthy if the engine hangs."""
        await health.require_answer(self._running)

    def stop(self) -> None:
        """End the engine and remove its files. Harmless the second time, or when nothing has started."""
        if self._is_stopped:
            return
        self._is_stopped = True
        if self._engine:
            self._engine.shutdown()
        self._directory.remove()

    def _end_with_engine(self, pid: int) -> None:
        """A process of the engine has died, and so do we: Serve replaces a dead replica at once, a sick one later."""
        if self._is_stopped:
            return
        message = classify(RuntimeError(f"process {pid} ended"), first_child_error(self._directory.errors)).message
        write_line(log_line("engine_died", **vars(self._origin), pid=pid, message=message))
        health.kill_children()
        self._directory.remove()
        os._exit(1)

    @property
    def _running(self) -> Engine:
        if self._engine is None:
            raise RuntimeError("the replica has not started")
        return self._engine
