"""One replica from start to stop: model, engine, warm-up, app, health, clean end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sglang_serve import args, asgi, auth, leftovers, models, ports
from sglang_serve.engine_args import engine_args, engine_environment
from sglang_serve.errors import StartError, classify
from sglang_serve.progress import Progress, write_line
from sglang_serve.request_log import Origin

if TYPE_CHECKING:
    from fastapi import FastAPI


class Replica:
    """Everything of SGLangServer that is not Ray Serve's."""

    def __init__(self, serve_args: args.ServeArgs, name: str, env: Mapping[str, str]) -> None:
        self._args = serve_args
        self._env = env
        self._live = args.LiveArgs()
        self._origin = Origin(serve_args.endpoint, serve_args.revision, name)
        self._directory = leftovers.claim(Path(env.get(args.ENV_STATE_DIR, args.DEFAULT_STATE_DIR)), name)
        self._progress = Progress(self._directory.path, write_line, **vars(self._origin))

    async def start(self) -> None:
        """Load the model and answer one request. Raises StartError, and leaves nothing but its reason."""
        try:
            self._engine = await asyncio.to_thread(self._start_engine)
            await self._warm_up()
        except Exception as error:
            failure = error if isinstance(error, StartError) else classify(repr(error))
            self._progress.report("failed", failure.message, reason=failure.reason, remedy=failure.remedy)
            self._directory.remove_all_but_progress()
            raise failure from None

    def _start_engine(self) -> Any:
        self._progress.report("model", f"looking for {self._args.model.uri}")
        path = models.fetch(self._args.model, self._env, partial(self._progress.report, "model"))
        self._progress.report("load", f"loading {path}")
        os.environ.update(engine_environment(self._args, len(os.sched_getaffinity(0))))
        leftovers.use_for_temporary_files(self._directory)
        self._port = ports.claim_port()
        from sglang_serve import sglang_private  # noqa: PLC0415 - imports torch; reads the environment set above

        self._sglang = sglang_private
        return sglang_private.start_engine(
            engine_args(self._args, path, self._port.getsockname()[1]), self._directory.errors
        )

    async def _warm_up(self) -> None:
        self._progress.report("warmup", "answering a first request")
        await self._sglang.answer_once(self._engine)
        await self._sglang.freeze_gc(self._engine)

    def build_app(self) -> FastAPI:
        """SGLang's app with our middleware; Serve then runs its lifespan."""
        app = self._sglang.native_app(self._engine)
        asgi.install(app, self._context(app))
        self._sglang.set_ready(self._engine)
        self._progress.report("ready", "answering requests")
        return app

    def _context(self, app: FastAPI) -> asgi.Context:
        policy = auth.policy_from(
            partial(self._sglang.is_admin_route, app),
            require_keys=self._args.require_keys,
            keys_dir=self._env.get(args.ENV_KEYS_DIR, ""),
            admin=self._args.admin,
            admin_key_file=self._env.get(args.ENV_ADMIN_KEY_FILE, ""),
        )
        return asgi.Context(
            origin=self._origin,
            policy=policy,
            live=lambda: self._live,
            is_served=partial(self._sglang.serves, self._engine),
            write=write_line,
        )

    def reconfigure(self, live: args.LiveArgs) -> None:
        """Take new settings at once."""
        self._live = live

    async def check_health(self) -> None:
        """Raise if the engine does not answer."""
        await asyncio.wait_for(self._sglang.answer_once(self._engine), 20)

    def stop(self) -> None:
        """End the engine and remove its files."""
        self._engine.shutdown()
        self._directory.remove()
