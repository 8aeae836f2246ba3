"""The other nodes of a replica that spans several: an actor on each, with SGLang's own processes below it.

Each node runs what `sglang serve --nnodes N --node-rank I` would run there; Ray only places the nodes (one bundle of
the replica's placement group each) and ties them together (docs/adr/0010-an-engine-on-each-node.md): an actor ends when
its replica does, and its processes with it; the replica ends when an actor does.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from sglang_serve import args, drain, health
from sglang_serve.errors import StartError
from sglang_serve.part import Part

STOP_SECONDS = 20.0
AGAIN_SECONDS = 1.0


class Follower:
    """The actor: the part of a replica on one node but the first. `name` is the replica's, `lead` its Ray node's id."""

    def __init__(self, wire: dict[str, Any], name: str, node: int, lead: str) -> None:
        self._part = Part(args.serve_args(wire), f"{name}-{node}", os.environ, node)
        (self._part.directory.path / drain.LEAD).write_text(lead)  # for the preStop hook of its pod
        self._path = Path()
        self._ended = threading.Event()
        self._what = ""

    def fetch(self, commit: str) -> None:
        """Get the model, of this commit if it has one. Raises StartError."""
        self._part.commit = commit
        try:
            self._path = self._part.fetch()
        except Exception as error:  # noqa: BLE001 - whatever it was gets a reason
            raise self._part.failed(error) from None

    def load(self, rendezvous: str) -> None:
        """Start the processes of this node; returns when all nodes have loaded. Raises StartError."""
        try:
            self._engine = self._part.load(self._path, rendezvous)
        except Exception as error:  # noqa: BLE001 - as above
            raise self._part.failed(error) from None
        self._part.directory.note_shared_memory(self._engine.pids)
        self._part.ready("works for its replica")
        health.on_exit(self._engine.pids, self._end)

    def wait(self) -> str:
        """Return when a process of this node has ended, with the reason."""
        self._ended.wait()
        return self._what

    def _end(self, pid: int) -> None:
        self._what = self._part.why_ended(f"process {pid} ended").message
        self._ended.set()

    def stop(self) -> None:
        """End the processes and leave no file."""
        health.kill_children()
        self._part.directory.remove()


class Followers:
    """All of them, for their replica. Its placement group has one bundle for each node; the first is the replica's."""

    def __init__(self, wire: dict[str, Any], name: str, group: PlacementGroup) -> None:
        self._wire, self._name, self._group = wire, name, group
        self._actors: list[Any] = []
        self._fetched: list[Any] = []
        self._error: BaseException | None = None
        self._is_stopped = threading.Event()

    def fetch(self, commit: str) -> None:
        """Let them get the model, of this commit if it has one; returns at once."""
        actor, lead = ray.remote(Follower), ray.get_runtime_context().get_node_id()
        for node, bundle in enumerate(self._group.bundle_specs[1:], start=1):
            options = actor.options(
                num_cpus=bundle.get("CPU", 0),
                num_gpus=bundle.get("GPU", 0),
                max_concurrency=3,  # `wait` occupies one thread
                scheduling_strategy=PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=node),
            )
            self._actors.append(options.remote(self._wire, self._name, node, lead))
        self._fetched = [one.fetch.remote(commit) for one in self._actors]

    def load(self, rendezvous: str, failed: Callable[[], None]) -> None:
        """Wait until they have the model, let them load it, and return. Raises StartError; a later failure calls
        `failed` from a thread."""
        self._get(self._fetched)
        loaded = [one.load.remote(rendezvous) for one in self._actors]
        self._in_thread(lambda: self._follow(loaded, failed))

    def _follow(self, loaded: list[Any], failed: Callable[[], None]) -> None:
        try:
            self._get(loaded)
        except Exception as error:  # noqa: BLE001 - the replica asks for it
            self._error = error
            while not self._is_stopped.wait(AGAIN_SECONDS):  # the processes it shall end may come later
                failed()

    def _get(self, asked: list[Any]) -> None:
        """Wait for all; the first failure counts."""
        while asked:
            done, asked = ray.wait(asked)
            try:
                ray.get(done)
            except RayTaskError as error:
                raise error.cause from None
            except RayError as error:
                raise StartError("EngineFailed", f"a node of the replica was lost: {_first_line(error)}") from None

    def reason(self, error: BaseException) -> BaseException:
        """Why one of them failed, or `error` if none did."""
        return self._error or error

    def on_exit(self, call: Callable[[str], None]) -> None:
        """Call `call(what)`, from a thread, when one of them has ended."""
        waiting = [one.wait.remote() for one in self._actors]

        def watch() -> None:
            done, _ = ray.wait(waiting)
            try:
                what = ray.get(done[0])
            except RayError as error:
                what = f"a node of the replica was lost: {_first_line(error)}"
            if not self._is_stopped.is_set():
                call(what)

        self._in_thread(watch)

    def stop(self) -> None:
        """End them; returns when they are gone, or cannot be reached."""
        self._is_stopped.set()
        ray.wait([one.stop.remote() for one in self._actors], num_returns=len(self._actors), timeout=STOP_SECONDS)
        for one in self._actors:
            ray.kill(one)

    @staticmethod
    def _in_thread(call: Callable[[], None]) -> None:
        threading.Thread(target=call, name="followers", daemon=True).start()


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
