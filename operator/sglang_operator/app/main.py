"""`sglang-operator run`: the command line of the process that the chart starts."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import click

from sglang_operator.api import InvalidEndpoint
from sglang_operator.app.options import LogFormat, Options, parse_namespaces
from sglang_operator.render.defaults import read_defaults
from sglang_operator.render.platform import images_with

# The API server takes JSON of 10,000 levels in fields without a schema, and Python reads a thousand by default: one
# endpoint like that would end the watch of all, and with it this process, at each start.
# json goes down in C with each: that takes more than 1 MiB of stack, of which glibc gives a thread 8.
LEVELS = 12_000
GARBAGE = 20_000  # new objects between two collections; Python's own is 700 (both measured: docs/performance.md)

HELP = """Watch SGLangEndpoints and serve them through KubeRay.

\b
  sglang-operator run                                    the whole cluster, as the chart does
  sglang-operator run --namespaces team-a,team-b         these namespaces only
  sglang-operator run --no-leader-election --log-format text
                                                         with your kubeconfig, from a machine that reaches pod IPs

The API server is found by the pod's service account, else by $KUBECONFIG or ~/.kube/config. Every option can also be an
environment variable, for example SGLANG_OPERATOR_LOG_LEVEL=debug. SIGTERM ends the running passes and gives the lease
back. Exit status 1 means: start it again; 2: it was called wrongly.
"""


def _option(*names: str, **attributes: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """An option that can also be given as SGLANG_OPERATOR_<NAME>."""
    name = names[0].partition("/")[0].removeprefix("--").replace("-", "_")
    return click.option(*names, envvar=f"SGLANG_OPERATOR_{name.upper()}", **attributes)


def _images(_context: click.Context, _option: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    """`given` if every one is VENDOR=IMAGE, else a usage error."""
    try:
        images_with(given)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return given


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def group() -> None:
    """The operator of SGLangEndpoints. Users talk to the cluster with `kubectl sglang` instead."""


@group.command(help=HELP, short_help="Watch SGLangEndpoints and serve them.")
@_option(
    "--namespaces",
    default="",
    metavar="A,B",
    help="Serve these namespaces only; without rights on CRDs.  [default: the whole cluster]",
)
@_option(
    "--defaults",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="YAML with platform defaults: a part of a spec, merged under the one of each endpoint. Read once.",
)
@_option(
    "--image",
    "images",
    multiple=True,
    callback=_images,
    metavar="VENDOR=IMAGE",
    help="Serving image of endpoints that name none, for nvidia, amd or cpu; may be repeated, in the environment with "
    "spaces between.  [default: the release's]",
)
@_option(
    "--workers",
    default=Options.workers,
    type=click.IntRange(1, 64),
    show_default=True,
    help="Endpoints that are reconciled at the same time.",
)
@_option(
    "--resync-seconds",
    default=Options.resync_seconds,
    type=click.FloatRange(10),
    show_default=True,
    help="Look at each endpoint this often although nothing was heard of it.",
)
@_option(
    "--leader-election/--no-leader-election",
    default=Options.leader_election,
    show_default=True,
    help="Of several operators one writes. Without it run only one.",
)
@_option(
    "--lease-name",
    default=Options.lease_name,
    show_default=True,
    help="The Lease that the leader holds. Operators of different namespaces that share its namespace need two.",
)
@_option(
    "--lease-namespace", default="", help="Namespace of the Lease.  [default: $POD_NAMESPACE, or the kubeconfig's]"
)
@_option(
    "--kuberay-namespace",
    default="",
    metavar="A",
    help="Where KubeRay's operator runs: no pod of another one may reach Ray's job API then.  [default: any]",
)
@_option(
    "--read-nodes/--no-read-nodes",
    default=Options.read_nodes,
    show_default=True,
    help="Say in status what no node has enough of, before there are pods. Needs the right to list nodes.",
)
@_option(
    "--http-port",
    default=Options.http_port,
    type=click.IntRange(0, 65535),
    show_default=True,
    help="Port of /healthz, /readyz and /metrics; 0: any free one, which the log names.",
)
@_option(
    "--log-format",
    default=Options.log_format,
    type=click.Choice(get_args(LogFormat)),
    show_default=True,
    help="json for collectors, text for people.",
)
@_option(
    "--log-level",
    default=Options.log_level,
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    show_default=True,
    help="debug also shows what kopf and the HTTP client do.",
)
def run(namespaces: str, defaults: Path | None, **options: Any) -> None:
    """See HELP."""
    sys.exit(start(Options(namespaces=parse_namespaces(namespaces), defaults=defaults, **options)))


def start(options: Options) -> int:
    """Run the operator. Returns the exit status: 2 for defaults that are wrong, else as `runtime.run`."""
    # Kopf and the API client take half a second: --help does without.
    from sglang_operator.app import logs, runtime  # noqa: PLC0415
    from sglang_operator.app.reconciler import make_reconcile  # noqa: PLC0415

    logs.configure(options.log_format, options.log_level)
    # Whatever is loaded by now stays; objects of a pass live for a second and hardly ever refer to themselves.
    gc.freeze()
    gc.set_threshold(GARBAGE)
    try:
        defaults = read_defaults(options.defaults.read_text()) if options.defaults else {}
    except InvalidEndpoint as error:
        logging.getLogger(__name__).critical("%s: %s", options.defaults, error)
        return 2
    sys.setrecursionlimit(LEVELS)
    return asyncio.run(runtime.run(options, defaults, make_reconcile))


def main() -> None:
    """Entry point of `sglang-operator`."""
    group(prog_name="sglang-operator")
