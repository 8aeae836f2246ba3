"""`kubectl sglang args`: the server arguments that `spec.engine.args` takes, offline."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import click

from sglang_operator.api.engine_args import PLATFORM_OWNED, Argument, canonical, suggest, table, type_words
from sglang_operator.api.errors import show
from sglang_operator.render import to_yaml

EXIT_NOTHING: Final = 1
HELP = """List the server arguments of SGLang that spec.engine.args takes, with type, values, default and SGLang's help.

Works offline: the list is that of the SGLang this version serves with (`kubectl sglang version`).

\b
  kubectl sglang args                       all of them, a line each
  kubectl sglang args attention backend     those with all of these words in name or help
  kubectl sglang args mem_fraction_static   one, in full; --mem-fraction-static works too
  kubectl sglang args lora -o json

An argument is written by its field name, without quotes around numbers:

\b
  spec:
    engine:
      args: {mem_fraction_static: 0.85, attention_backend: triton}

\b
Exit codes: 0 found, 1 no argument is like that, 2 wrong usage.
"""


def _named(_ctx: click.Context, _param: click.Parameter, typed: str) -> list[str]:
    """For completion: the arguments whose names begin so, in SGLang's spelling or ours."""
    return [name for name in table().arguments if name.startswith(typed.replace("-", "_"))]


@click.command(
    help=HELP,
    short_help="List the engine's arguments, to find one.",
    context_settings={"ignore_unknown_options": True},  # SGLang's own spelling begins with --
)
@click.argument("words", nargs=-1, metavar="[WORD]...", shell_complete=_named)
@click.option("form", "-o", "--output", type=click.Choice(["text", "yaml", "json"]), default="text", show_default=True)
def args(words: Sequence[str], form: str) -> None:
    """See HELP."""
    found = matching(words)
    if not found:
        said = f"SGLang {table().sglang} has no argument with {' and '.join(words)} in its name or help"
        click.echo(f"error: {said}: {suggest(words[0])}", err=True)
        sys.exit(EXIT_NOTHING)
    if form == "text":
        click.echo("\n".join(_in_full(*next(iter(found.items()))) if len(found) == 1 else _lines(found)))
    else:
        data = [_data(name, argument) for name, argument in found.items()]
        click.echo(json.dumps(data, indent=2) if form == "json" else to_yaml(*data), nl=form == "json")


def matching(words: Sequence[str]) -> Mapping[str, Argument]:
    """The argument of this name, in any of its spellings, or those that have every word in their name or help."""
    if len(words) == 1 and (named := table().arguments.get(name := canonical(words[0]))):
        return {name: named}
    plain = [word.removeprefix("--").replace("-", "_").lower() for word in words]
    return {name: one for name, one in table().arguments.items() if all(word in _text(name, one) for word in plain)}


def _text(name: str, argument: Argument) -> str:
    return " ".join((name, *argument.aliases, argument.help)).lower()


def _lines(found: Mapping[str, Argument]) -> Iterator[str]:
    """One each, as kubectl prints its tables; the whole help is for one alone."""
    rows = [("NAME", "TYPE", "DEFAULT", "HELP"), *(_row(name, argument) for name, argument in found.items())]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        yield "   ".join([*(f"{text:<{width}}" for text, width in zip(row, widths, strict=False)), row[3]])


def _row(name: str, argument: Argument) -> tuple[str, str, str, str]:
    if name in PLATFORM_OWNED:
        return name, "", "", f"set by the platform: {PLATFORM_OWNED[name]}"
    default = "" if argument.default is None else show(argument.default)
    return name, argument.type.replace("|", " or "), default, argument.help


def _in_full(name: str, argument: Argument) -> Iterator[str]:
    """As `kubectl explain` would."""
    yield f"{name}: {type_words(argument) or 'only Python can make a value'}"
    if name in PLATFORM_OWNED:
        yield f"  set by the platform: {PLATFORM_OWNED[name]}"
    yield f"  {argument.help}"
    if argument.choices:
        yield f"  values: {', '.join(map(str, argument.choices))}"
    if argument.default is not None:
        yield f"  default: {show(argument.default)}"
    if argument.aliases:
        yield f"  on SGLang's command line also: {', '.join('--' + one.replace('_', '-') for one in argument.aliases)}"


def _data(name: str, argument: Argument) -> dict[str, Any]:
    """What the table has, as JSON can hold it."""
    return {"name": name, **asdict(argument), "setByPlatform": PLATFORM_OWNED.get(name)}
