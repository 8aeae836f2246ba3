"""Which endpoint listens where on this machine. Pure."""

from __future__ import annotations

from collections.abc import Sequence

DEFAULT_PORT = 8000
HIGHEST_PORT = 65535


class BadPorts(ValueError):  # noqa: N818 - what the options are
    """The --port options do not give each endpoint one port of its own; the text says how they would."""


def assign_ports(names: Sequence[str], options: Sequence[str]) -> dict[str, int]:
    """A port for each endpoint from options like `8001` (one endpoint only) and `NAME=8001`. Raises BadPorts."""
    if twice := [name for name in names if names.count(name) > 1]:
        raise BadPorts(f"two endpoints are named {twice[0]!r}: run them one by one, or rename one")
    if len(names) == 1 and not options:
        return {names[0]: DEFAULT_PORT}
    if len(names) == 1 and len(options) == 1 and "=" not in options[0]:
        return {names[0]: _port(options[0])}
    given = dict(_named(option) for option in options)
    if unknown := sorted(given.keys() - set(names)):
        raise BadPorts(f"--port {unknown[0]}=…: no such endpoint in the files; they have {', '.join(names)}")
    if missing := [name for name in names if name not in given]:
        raise BadPorts(f"{len(names)} endpoints need a port each, {missing[0]!r} has none: {_example(names)}")
    if len(set(given.values())) < len(names):
        raise BadPorts(f"two endpoints cannot share a port: {_example(names)}")
    return given


def _named(option: str) -> tuple[str, int]:
    name, separator, port = option.partition("=")
    if not separator:
        raise BadPorts(f"--port {option}: with several endpoints write NAME=PORT")
    return name, _port(port)


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= HIGHEST_PORT:
        raise BadPorts(f"--port {text}: not a number from 1 to {HIGHEST_PORT}")
    return int(text)


def _example(names: Sequence[str]) -> str:
    return "use " + " ".join(f"--port {name}={DEFAULT_PORT + index}" for index, name in enumerate(names))
