"""The commit of an earlier Ray cluster, on a real Ray Serve: replicas are told of it before they load. No engine."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path

from engine import hub_server
from engine.hub_server import Hub

ROOT = Path(__file__).parents[2]
FIRST, SECOND, THIRD = "1" * 40, "2" * 40, "3" * 40
# A revision that is told one; then one more replica of it, when another is told; then a revision that is told nothing.
REPLICAS = """
import json
import sys
from ray import serve
from sglang_serve import args
from sglang_serve.part import Part
from sglang_serve.replica import Replica
from sglang_serve.server import SGLangServer


class Served:
    '''SGLangServer without what it loads.'''

    async def __init__(self, wire):
        async def warm_up(*_):
            pass

        Part.fetch, Part.load = lambda _: None, lambda *_: None
        Replica._warm_up = warm_up
        self.server = SGLangServer.__new__(SGLangServer)
        await SGLangServer.__init__(self.server, wire)

    async def reconfigure(self, user_config):
        await self.server.reconfigure(user_config)

    def commit(self):
        return self.server._replica._part.commit


def commits(revision, told, replicas=1):
    wire = args.to_wire(args.ServeArgs(endpoint="e", model=args.ModelArgs("hf://org/name"), revision=revision))
    options = {"num_replicas": replicas, "user_config": args.to_wire(args.LiveArgs(model_commit=told))}
    light = {"num_cpus": 0}
    served = serve.deployment(ray_actor_options=light, **options)(Served)
    handle = serve.run(served.bind(wire), name=revision, route_prefix=None)
    return handle.broadcast("commit").results()


first, third = sys.argv[1:]
serve.start(proxy_location="Disabled")
try:
    found = commits("e-1", first), commits("e-1", third, replicas=2), commits("e-2", "")
finally:
    serve.shutdown()
print(json.dumps(found))
"""


def test_replicas_serve_what_they_are_told_and_ask_only_if_they_are_told_nothing(engine_python: Path) -> None:
    with hub_server.running(Hub()) as hub, tempfile.TemporaryDirectory(prefix="t-") as scratch:
        hub.push(SECOND, {"config.json": b"{}"})
        ray = {"RAY_TMPDIR": scratch, "RAY_USAGE_STATS_ENABLED": "0"}
        places = {"HF_HOME": f"{scratch}/hf", "HF_ENDPOINT": hub.url, "SGLANG_SERVE_STATE_DIR": f"{scratch}/s"}
        env = {**os.environ, **ray, **places, "PYTHONPATH": f"{ROOT}/images"}
        command: list[str | Path] = [engine_python, "-c", REPLICAS, FIRST, THIRD]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        asked = [one for one in hub.asked if "/revision/" in one]
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == [[FIRST], [FIRST, FIRST], [SECOND]], done.stderr[-3000:]
    assert len(asked) == 1, "of the branch, by the revision that was told nothing"
