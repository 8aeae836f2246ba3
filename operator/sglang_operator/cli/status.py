"""`kubectl sglang status`: how an endpoint in a cluster does, and with --wait how it gets there."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import click

from sglang_operator.cli.kubectl import KubectlError, get_endpoint
from sglang_operator.cli.situation import Object, Outcome, lines, situation_of
from sglang_operator.cli.view import View
from sglang_operator.render import to_yaml

EXIT_NOT_THERE: Final = 1
EXIT_UNASKED: Final = 3
LOOK_SECONDS: Final = 2.0
HELP = """Print how an endpoint does: whether it serves, if not why, and what to do.

Asks the cluster through your kubectl, with its context and login.

\b
  kubectl sglang status qwen3                      now, with all conditions and the last revisions
  kubectl sglang status qwen3 -n team-a --wait     follow a rollout until it has arrived or failed
  kubectl apply -f qwen3.yaml && kubectl sglang status qwen3 --wait --timeout 1h     in CI

--wait ends as soon as the new revision serves; what the one before it still answers may finish. It ends as failed
when the operator has given the revision up and gone back, when the spec or an object that it becomes is invalid, and
when pods fail in a way that waiting does not mend.

\b
Exit codes: 0 it is as the spec asks, 1 it is not, or not in time, 2 wrong usage, 3 the cluster could not be asked.
"""
_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600}


class Duration(click.ParamType[float]):
    """Seconds, from what kubectl takes for --timeout."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """From 90, 90s, 30m or 1h."""
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d+)([smh]?)", value)
        return (
            float(found[1]) * _UNITS[found[2]]
            if found
            else self.fail(f"{value!r} is not like 90s, 30m or 1h", param, ctx)
        )


@click.command(help=HELP, short_help="Print how an endpoint in a cluster does, or wait for it.")
@click.argument("name")
@click.option("-n", "--namespace", help="Where it is; without it, where your kubectl's context is.")
@click.option("--context", help="The kubeconfig's context, as for kubectl.")
@click.option("--kubeconfig", metavar="FILE", help="As for kubectl.")
@click.option("waits", "-w", "--wait", is_flag=True, help="Follow it until it is as the spec asks, or has failed.")
@click.option("--timeout", type=Duration(), default="30m", show_default=True, help="Of --wait: 90s, 30m, 1h.")
@click.option("form", "-o", "--output", type=click.Choice(["text", "yaml", "json"]), default="text", show_default=True)
def status(name: str, waits: bool, timeout: float, form: str, **given: str | None) -> None:
    """See HELP."""
    flags = [f"--{flag}={value}" for flag, value in given.items() if value]
    try:
        look = partial(get_endpoint, name, flags)
        # A time-out of 0 looks once, as that of `kubectl wait` does.
        endpoint = follow(look, View(sys.stderr), timeout) if waits and timeout else look()
    except KubectlError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(EXIT_UNASKED)
    _print(endpoint, form)
    sys.exit(0 if situation_of(endpoint).outcome is Outcome.ARRIVED else EXIT_NOT_THERE)


def follow(
    look: Callable[[float], Object],
    view: View,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Object:
    """Show each step until it has arrived or failed, or the time is over; the endpoint as it was seen last. `look` is
    given the seconds that are left. An API server that is away for a while is waited for. Raises KubectlError for what
    asking again does not change, and for a server that is away when the time is over."""
    until, away = clock() + seconds, None
    seen: Object = {}
    while (left := until - clock()) > 0:
        try:
            seen, away = look(left), None
            if _step(seen, view) is not Outcome.WAITING:
                break
        except KubectlError as error:
            if error.is_final:
                raise
            if clock() < until or not seen:  # else the end of the time has cut the look, and the server may be well
                away = _told(error, away, view)
        view.tick()
        sleep(max(0.0, min(LOOK_SECONDS, until - clock())))
    else:
        view.note(f"not in time: the {seconds:.0f} s of --timeout are over")
    view.finish()
    if away:
        raise away
    return seen


def _step(seen: Object, view: View) -> Outcome:
    here = situation_of(seen)
    view.step(here.reason, here.message)
    return here.outcome


def _told(error: KubectlError, before: KubectlError | None, view: View) -> KubectlError:
    """Shown once, however often the server is asked in vain."""
    if str(error) != str(before):
        view.note(f"error: {error}")
    return error


def _print(endpoint: Object, form: str) -> None:
    if form == "text":
        return click.echo("\n".join(lines(endpoint)))
    here, metadata = situation_of(endpoint), endpoint["metadata"]
    said = {
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "outcome": here.outcome.value,
        "reason": here.reason,
        "message": here.message,
        "status": endpoint.get("status") or {},
    }
    return click.echo(json.dumps(said, indent=2) if form == "json" else to_yaml(said), nl=form == "json")
