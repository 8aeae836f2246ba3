"""Where the model's files are: a mirror, the hub, a mounted claim or a directory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from sglang_serve import args
from sglang_serve.errors import StartError


def fetch(model: args.ModelArgs, env: Mapping[str, str], say: Callable[[str], None]) -> str:
    """The directory with the model's files, downloaded if they are on the hub. Raises StartError."""
    scheme, _, rest = model.uri.partition("://")
    if scheme == "file":
        return str(_existing(Path(rest), model.uri))
    if scheme == "pvc":
        return str(_existing(Path(env.get(args.ENV_PVC_ROOT, "/pvc"), rest), model.uri))
    mirror = env.get(args.ENV_MODEL_MIRROR)
    return str(_existing(Path(mirror or "/nowhere") / rest, model.uri))


def _existing(path: Path, uri: str) -> Path:
    if not path.is_dir():
        raise StartError("ModelNotFound", f"{uri}: no directory {path}.", "correct spec.model.uri")
    return path
