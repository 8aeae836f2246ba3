"""Writes the table of SGLang's server arguments that `sglang_operator.api.engine_args` checks against.

    <engine environment>/bin/python hack/engine_args.py            renew the committed table
    <engine environment>/bin/python hack/engine_args.py --print    print it instead

It runs in the engine environment and reads `ServerArgs` of the SGLang installed there.
"""

from __future__ import annotations

import argparse
import json
import sys
import types
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from sglang.srt.arg_groups.arg_utils import _field_default, _unwrap_annotated, record_fields
from sglang.srt.server_args import ServerArgs

TABLE = Path(__file__).resolve().parent.parent / "operator" / "sglang_operator" / "api" / "engine_args.json"
HELP_LENGTH = 160  # characters kept of an argument's help
SCALARS = {int: "int", float: "float", bool: "bool", str: "str"}
# parse_cuda_graph_config (arg_groups/cuda_graph_hook.py) takes the object or the mapping it is made from.
AS_MAPPING = {"CudaGraphConfig"}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--print", action="store_true", help="print the table, change no file")
    text = dump(version("sglang"), dict(arguments()))
    if parser.parse_args().print:
        sys.stdout.write(text)
    else:
        TABLE.write_text(text, encoding="utf-8")


def dump(sglang: str, table: Mapping[str, Any]) -> str:
    """The table as JSON, one line per argument so that a diff reads well."""
    lines = ",\n".join(
        f"    {json.dumps(name)}: {json.dumps(entry, ensure_ascii=False)}" for name, entry in sorted(table.items())
    )
    return f'{{\n  "sglang": {json.dumps(sglang)},\n  "args": {{\n{lines}\n  }}\n}}\n'


def arguments() -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, entry) of every field of ServerArgs but the private ones."""
    actions = command_line()
    hints = get_type_hints(ServerArgs, include_extras=True)
    for field in record_fields(ServerArgs):
        if not field.name.startswith("_"):
            annotation, arg = _unwrap_annotated(hints[field.name])
            yield field.name, entry(field, annotation, arg, actions.get(field.name))


def command_line() -> dict[str, argparse.Action]:
    """SGLang's own parser by field name: it knows the choices that are computed late."""
    parser = argparse.ArgumentParser()
    ServerArgs.add_cli_args(parser)
    actions: dict[str, argparse.Action] = {}
    for action in parser._actions:
        actions.setdefault(action.dest, action)  # deprecated spellings come last
    return actions


def entry(field: Any, annotation: Any, arg: Any, action: argparse.Action | None) -> dict[str, Any]:
    """Type, nullability, choices, other spellings, default and help of one argument."""
    found = {kind for part in members(annotation) for kind in kinds(part)}
    if arg and arg.type_parser is json.loads:
        found.add("dict")  # the command line takes JSON text, the engine its value
    default, choices = _field_default(field), choices_of(annotation, action)
    row: dict[str, Any] = {"type": "|".join(sorted(found))}
    if default is None or type(None) in members(annotation):
        row["nullable"] = True
    if choices:
        row["choices"] = choices
    if action and (aliases := spellings(action, field.name)):
        row["aliases"] = aliases
    if default is not None and is_json(default):
        row["default"] = default
    row["help"] = first_line((action and action.help) or (arg and arg.help) or "")
    return row


def members(annotation: Any) -> tuple[Any, ...]:
    """The alternatives of a union, or the annotation alone."""
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def kinds(annotation: Any) -> Iterator[str]:
    """What YAML can write for a type; nothing for what only Python can make."""
    origin = get_origin(annotation) or annotation
    if origin is Literal:
        yield from {SCALARS[type(value)] for value in get_args(annotation) if value is not None}
    elif origin in SCALARS:
        yield SCALARS[origin]
    elif origin in (list, set, tuple):
        yield from (f"list[{kind}]" for item in get_args(annotation) for kind in kinds(item))
    elif origin is dict:
        yield from ("dict" for _ in [1] if type not in get_args(annotation))
    elif getattr(origin, "__name__", "") in AS_MAPPING:
        yield "dict"


def choices_of(annotation: Any, action: argparse.Action | None) -> list[Any]:
    """The values allowed, sorted; a set in SGLang's source has no order of its own."""
    found = list(action.choices) if action and action.choices else []
    for part in members(annotation):
        if get_origin(part) is Literal:
            found += [value for value in get_args(part) if value is not None]
    return sorted(set(found), key=str)


def spellings(action: argparse.Action, name: str) -> list[str]:
    """Other names of an argument, as field names: `--tensor-parallel-size` -> `tensor_parallel_size`."""
    options = {option.removeprefix("--").replace("-", "_") for option in action.option_strings}
    return sorted(option for option in options - {name} if not option.startswith("no_"))


def first_line(text: str) -> str:
    """The first line of a help text, cut to a sentence that fits."""
    line = text.strip().partition("\n")[0]
    return line if len(line) <= HELP_LENGTH else line[: HELP_LENGTH - 1].rsplit(" ", 1)[0] + "…"


def is_json(value: Any) -> bool:
    """Whether YAML could write this default."""
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True


if __name__ == "__main__":
    main()
