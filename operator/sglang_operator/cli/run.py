"""`kubectl sglang run`: the rendered Serve application on this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from sglang_operator.api import Endpoint, InvalidEndpoint
from sglang_operator.cli.local_spec import Machine, NotLocal, local_spec
from sglang_operator.cli.machine import default_mirror, engine_python, require_accelerators
from sglang_operator.cli.manifests import read_endpoints, warn
from sglang_operator.cli.ports import BadPorts, assign_ports
from sglang_operator.cli.session import Session, serve
from sglang_operator.render import render_endpoint
from sglang_operator.render.shape import shape_of
from sglang_serve.args import ENV_MODEL_MIRROR

EXIT_INVALID = 1
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_DIR = click.Path(exists=True, file_okay=False, path_type=Path)
HELP = """Serve endpoints on this machine, without a cluster.

Each endpoint is checked and rendered as `render` does it, and the very Ray Serve application of its RayService is
started here, with a Ray of its own that ends with it (a Ray that runs already is used and left). Ctrl-C stops it:
running requests may finish, a second Ctrl-C ends it at once. No process and no temporary file is left.

\b
  kubectl sglang run -f examples/smollm2.yaml
  kubectl sglang run -f examples/smollm2.yaml --once "What is the capital of France?"
  kubectl sglang run -f a.yaml -f b.yaml --port a=8000 --port b=8001

It needs the engine environment (`make engine` in a checkout, or --python). Secrets and claims are not read: name a
directory or a file in their place. Progress goes to stderr, the log to a file whose path is shown.

\b
Exit codes: 0 answered (--once), 1 the endpoint is invalid or not for this machine,
2 wrong usage, 3 it could not start or answer, 130 interrupted.
"""


@click.command(help=HELP, short_help="Serve endpoints on this machine.")
@click.option("files", "-f", "--file", multiple=True, required=True, metavar="FILE", help="YAML or JSON; - is stdin.")
@click.option("ports", "-p", "--port", multiple=True, metavar="[NAME=]PORT", help="Where to listen.  [default: 8000]")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 opens it to all.")
@click.option("--once", metavar="QUESTION", help="Ask, print only the answer on stdout, stop.")
@click.option("--follow", is_flag=True, help="Show the log as it grows.")
@click.option("--python", type=_FILE, help="Engine environment.  [default: $SGLANG_ENGINE_PYTHON, make's]")
@click.option("--keys-dir", type=_DIR, help="One file per API key, in place of spec.api.keysSecret.")
@click.option("--admin-key-file", type=_FILE, help="In place of spec.api.adminKeySecret.")
@click.option("--model-mirror", type=_DIR, help="DIR/ORG/NAME is used before the hub.  [default: make's]")
@click.option("--pvc-root", type=_DIR, help="DIR/CLAIM/PATH stands for pvc://CLAIM/PATH.")
def run(files: Sequence[str], ports: Sequence[str], once: str | None, follow: bool, **where: Any) -> None:
    """See HELP."""
    try:
        endpoints = read_endpoints(files)
        warn(endpoints)
        listening = assign_ports([endpoint.name for endpoint in endpoints], ports)
        require_local(endpoints, once)
        python = engine_python(where.pop("python"))
        sessions = [session(endpoint, listening[endpoint.name], where) for endpoint in endpoints]
    except BadPorts as error:
        raise click.UsageError(str(error)) from error
    except (InvalidEndpoint, NotLocal) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(EXIT_INVALID)
    sys.exit(serve(python, sessions, once=once, follow=follow))


def require_local(endpoints: Sequence[Endpoint], once: str | None) -> None:
    """Raise NotLocal for what makes no sense here, before anything is started."""
    if once is not None and (len(endpoints) > 1 or endpoints[0].spec.task != "generate"):
        raise NotLocal(
            "--once asks one endpoint of task generate", "leave it out and use the curl line that run prints"
        )
    for endpoint in endpoints:
        if not endpoint.spec.most:
            raise NotLocal(f"{endpoint.name}: spec.replicas: 0 is a stopped endpoint", "set spec.replicas: 1")
        shape = shape_of(endpoint)
        if shape.pods > 1:
            what = f"{endpoint.name}: spec.parallelism.nodes: a replica on {shape.pods} nodes, and this is one machine"
            raise NotLocal(what, "set nodes: 1, with accelerator.count for all of its accelerators")
        require_accelerators(endpoint.spec.accelerator.vendor, shape.accelerators * endpoint.spec.most)


def session(endpoint: Endpoint, port: int, where: Mapping[str, Any]) -> Session:
    """What to start for one endpoint. Raises NotLocal if this machine lacks something it names."""
    mirror = where["model_mirror"] or os.environ.get(ENV_MODEL_MIRROR) or default_mirror()
    machine = Machine(
        http_port=port,
        http_host=where["host"],
        keys_dir=where["keys_dir"],
        admin_key_file=where["admin_key_file"],
        model_mirror=Path(mirror) if mirror else None,
        pvc_root=where["pvc_root"],
        environ=os.environ,
    )
    return Session(endpoint.name, local_spec(render_endpoint(endpoint), machine), machine)
