"""One replica from start to stop: model, engine, warm-up, app, health, clean end."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from sglang_serve import args, asgi, auth, commit, fan_out, health, report, uncounted
from sglang_serve.adapters import Adapters
from sglang_serve.part import Part
from sglang_serve.progress import log_line, write_line
from sglang_serve.routes import admin_matcher

if TYPE_CHECKING:
    from fastapi import FastAPI

    from sglang_serve.sglang_private import Engine


class Others(Protocol):
    """The parts of a replica on its other nodes."""

    def fetch(self, commit: str) -> None:
        """Let them get the model, of this commit if it has one; returns at once."""

    def load(self, rendezvous: str, failed: Callable[[], None]) -> None:
        """Wait until they have the model, let them load it, and return. Raises StartError; a later failure calls
        `failed` from a thread."""

    def reason(self, error: BaseException) -> BaseException:
        """Why one of them failed, or `error` if none did."""

    def on_exit(self, call: Callable[[str], None]) -> None:
        """Call `call(what)`, from a thread, when one of them has ended."""

    def stop(self) -> None:
        """End them; returns when they are gone."""


class Replica:
    """Everything of SGLangServer that is not Ray Serve's. `name` is unique among the replicas of this machine, `live`
    what is known before the first `reconfigure`."""

    def __init__(
        self,
        serve_args: args.ServeArgs,
        name: str,
        env: Mapping[str, str],
        node_ip: str = "",
        *,
        others: Others | None = None,
        broadcast: fan_out.Broadcast | None = None,
        commits: commit.Store | None = None,
        live: args.LiveArgs | None = None,
    ) -> None:
        self._args = serve_args
        self._node_ip = node_ip
        self._env = env
        self._others = others
        self._commits = commits or commit.Alone()
        self._live = live or args.LiveArgs()
        self._part = Part(serve_args, name, env)
        self._origin = self._part.origin
        self._broadcast = broadcast or self._alone
        self._engine: Engine | None = None
        self._watch: health.Watch | None = None
        self._app: FastAPI | None = None
        self._adapters: Adapters | None = None
        self._is_ready = False
        self._is_stopped = False
        self._ending = threading.Lock()

    async def start(self) -> None:
        """Load the model and answer one request, after a while if others have failed here. Raises StartError, and
        leaves nothing but its reason."""
        await asyncio.sleep(self._part.wait())
        try:
            self._engine = await asyncio.to_thread(self._load)  # Serve asks meanwhile whether the replica lives
            await self._warm_up(self._engine)
            self._adapters = self._adapters_of(self._engine)
        except Exception as error:  # noqa: BLE001 - whatever it was gets a reason
            raise await self._failed(error) from None

    async def _failed(self, error: Exception) -> Exception:
        """The reason why it could not start; all else is gone then. Serve's stop would remove the reason too, and a
        process of the engine that ends here is no cause."""
        self._is_stopped = True
        failure = self._part.failed(self._others.reason(error) if self._others else error)
        if self._others:
            await asyncio.to_thread(self._others.stop)
        return failure

    def _load(self) -> Engine:
        self._part.resolve(self._commits, self._live.model_commit or "")
        if self._others is None:
            return self._part.load(self._part.fetch())
        rendezvous = f"{self._node_ip}:{self._part.rendezvous_port}"
        self._others.fetch(self._part.commit)
        path = self._part.fetch()
        self._others.load(rendezvous, health.kill_children)  # ours would wait for theirs
        return self._part.load(path, rendezvous)

    async def _warm_up(self, engine: Engine) -> None:
        self._part.progress.report("warmup", "answering a first request")
        self._part.directory.note_shared_memory(engine.pids)
        await health.require_warm_up(engine)
        await engine.freeze_gc()
        health.on_exit(engine.pids, lambda pid: self._end(f"process {pid} ended"))
        if self._others:
            self._others.on_exit(self._end)

    def build_app(self) -> FastAPI:
        """SGLang's app with our middleware; Serve then runs its lifespan."""
        app = self._running.app()
        asgi.find_inference_first(app)
        asgi.install(app, self._context(app))
        asgi.on_startup(app, self._begun, self._failed)
        uncounted.answer_with(app)
        self._app = app
        self._export()
        return app

    def _begun(self) -> None:
        if self._adapters is None:
            self._note_ready()

    def _export(self) -> None:
        """SGLang counts only if it is told to, as natively; then the pod's page of metrics has this replica."""
        port = int(self._env.get(args.ENV_METRICS_PORT, args.DEFAULT_METRICS_PORT))
        if port and self._args.engine.get("enable_metrics"):
            from sglang_serve import exporter  # noqa: PLC0415 - prometheus_client, once its directory is known

            labels = {"endpoint": self._origin.endpoint, "revision": self._origin.revision}
            exporter.serve(port, exporter.AllReplicas(self._part.state, labels))

    def _note_ready(self) -> None:
        self._is_ready = True
        self._part.ready()

    def _adapters_of(self, engine: Engine) -> Adapters | None:
        if self._args.lora is None:
            return None
        return Adapters(engine, self._args.lora.max_loaded, self._part.fetch_adapter, self._part.say_of_adapters)

    def _context(self, app: FastAPI) -> asgi.Context:
        from sglang_serve.sglang_private import is_admin_endpoint  # noqa: PLC0415 - as above

        is_native = admin_matcher(app, is_admin_endpoint)
        policy = auth.policy_from(
            lambda scope: scope["path"].startswith(fan_out.PREFIX) or is_native(scope),
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
            broadcast=self._broadcast,
            replica=report.Replica(
                self._origin,
                self._node_ip,
                lambda: self._live.config_id,
                self.check_health,
                self._adapters.rows if self._adapters else None,
                self._part.commit,
            ),
        )

    async def reconfigure(self, live: args.LiveArgs) -> None:
        """Take new settings; they count from the next request on.

        Serve calls it once before the replica is ready, which waits there for its adapters. Later a replica gets no
        requests until this returns, so adapters follow in the background.
        """
        self._live = live
        if self._adapters is None:
            return
        self._adapters.want(tuple(live.adapters or ()))
        if not self._is_ready:
            await self._adapters.settle()
            self._note_ready()

    async def administer(self, request: fan_out.Request) -> dict[str, Any]:
        """What this replica answers to an admin request to all."""
        if self._app is None:
            raise RuntimeError("the replica has not started")
        return await fan_out.perform(self._app, self._origin.replica, request)

    async def _alone(self, request: fan_out.Request) -> Sequence[Any]:
        return [await self.administer(request)]

    async def check_health(self) -> None:
        """Raise Unhealthy if the engine hangs."""
        if self._watch is None:
            self._watch = health.Watch(self._running)
        await self._watch.require_answer()

    def stop(self) -> None:
        """End the engine and remove its files. Harmless the second time, or when nothing has started."""
        if self._is_stopped:
            return
        self._is_stopped = True
        if self._others:
            self._others.stop()
        if self._engine:
            self._engine.shutdown()
        self._part.directory.remove()

    def _end(self, what: str) -> None:
        """The engine has lost a process, and so do we end: Serve replaces a dead replica at once, a sick one later."""
        if self._is_stopped or not self._ending.acquire(blocking=False):  # the first cause counts, others follow it
            return
        try:
            why = self._part.why_ended(what)
            told = {"message": why.message, "reason": why.reason, "remedy": why.remedy}
            write_line(log_line("engine_died", **vars(self._origin), **told))
            health.kill_children()
            self._part.directory.remove()
        finally:  # whatever goes wrong here: nobody else ends a replica without an engine at once
            os._exit(1)

    @property
    def _running(self) -> Engine:
        if self._engine is None:
            raise RuntimeError("the replica has not started")
        return self._engine
