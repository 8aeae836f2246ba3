"""Where the model's files are: a directory, a mounted claim, a mirror, or the hub."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sglang_serve import args
from sglang_serve.errors import StartError
from sglang_serve.weights import OBJECT_STORAGE


@dataclass(frozen=True)
class Wanted:
    """A model or an adapter, and which of its files."""

    uri: str
    revision: str = "main"
    commit: str = ""
    """What the revision is held to be; "": whatever it is now."""
    load_format: str = "auto"
    """SGLang's: which files it reads."""


def resolve(model: Wanted, env: Mapping[str, str], say: Callable[[str], None]) -> str:
    """The commit that the model's revision is held to be, or is now; "" for a model that is not from the hub. Raises
    StartError."""
    scheme, _, rest = model.uri.partition("://")
    if scheme != "hf" or _in_mirror(rest, env):
        return ""
    if model.commit:
        return model.commit
    from sglang_serve import hub  # noqa: PLC0415 - huggingface_hub is in the engine environment only

    return hub.resolve(rest, model.revision, model.load_format, say)


def fetch(model: Wanted, env: Mapping[str, str], say: Callable[[str], None]) -> Path:
    """The directory with the model's files, downloaded if need be; `say` is told what goes on. Raises StartError."""
    scheme, _, rest = model.uri.partition("://")
    if scheme == "file":
        return _existing(Path("/", rest), model.uri)
    if scheme == "pvc":
        return _existing(_claim_path(rest, env), model.uri)
    if scheme == "hf":
        return _mirrored(rest, model.revision, env, say) or _downloaded(rest, model, say)
    if scheme in OBJECT_STORAGE:
        return _copied(model, env, say)
    known = ", ".join(f"{one}://" for one in ("hf", *OBJECT_STORAGE, "pvc", "file"))
    raise StartError("BadArgument", f"spec.model.uri {model.uri!r} is none of {known}", "correct it")


def _claim_path(rest: str, env: Mapping[str, str]) -> Path:
    root = env.get(args.ENV_PVC_ROOT)
    if not root:
        raise StartError(
            "BadArgument", f"pvc://{rest} is used, but {args.ENV_PVC_ROOT} is not set", "set it to the claims' mount"
        )
    return Path(root, rest)


def _in_mirror(repository: str, env: Mapping[str, str]) -> Path | None:
    mirror = env.get(args.ENV_MODEL_MIRROR)
    path = Path(mirror, repository) if mirror else None
    with _looking(path or Path(), f"hf://{repository}"):
        return path if path and path.is_dir() else None


def _mirrored(repository: str, revision: str, env: Mapping[str, str], say: Callable[[str], None]) -> Path | None:
    path = _in_mirror(repository, env)
    if path is None:
        return None
    what = "" if revision == "main" else f"; a mirror holds one revision, nobody compares it with {revision}"
    say(f"{repository} is taken from the mirror {env[args.ENV_MODEL_MIRROR]}, not from the hub{what}")
    return _existing(path, f"hf://{repository}")


def _downloaded(repository: str, model: Wanted, say: Callable[[str], None]) -> Path:
    from sglang_serve import hub  # noqa: PLC0415 - huggingface_hub is in the engine environment only

    return hub.download(repository, model.revision, model.commit, model.load_format, say=say)


def _copied(model: Wanted, env: Mapping[str, str], say: Callable[[str], None]) -> Path:
    from sglang_serve import objects  # noqa: PLC0415 - as above, obstore

    root = Path(env.get(args.ENV_OBJECTS_DIR) or Path.home() / ".cache/sglang-serve/objects")
    return objects.download(model.uri, root, say, load_format=model.load_format)


def _existing(path: Path, uri: str) -> Path:
    """The path, if there is a directory with files in it that we may read."""
    with _looking(path, uri):
        # A volume has a lost+found, root's alone.
        files = [file for file in sorted(path.iterdir()) if not file.is_dir()]
    if not files:
        raise StartError("ModelNotFound", f"{uri}: the directory {path} is empty, or has only directories in it")
    if closed := [file.name for file in files if not os.access(file, os.R_OK, effective_ids=True)]:
        # safetensors would call such a file absent
        raise StartError("AccessDenied", f"{uri}: {path}/{closed[0]} may not be read by user {os.geteuid()}")
    return path


@contextmanager
def _looking(path: Path, uri: str) -> Iterator[None]:
    """Every error of a volume as one with a reason: whether the model is absent, or the volume is away for now."""
    try:
        yield
    except PermissionError as error:
        raise StartError("AccessDenied", f"{uri}: {path} may not be read by this user") from error
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StartError("ModelNotFound", f"{uri}: there is no directory {path}") from error
    except OSError as error:  # a stale handle, a server that does not answer
        raise StartError("DownloadFailed", f"{uri}: {path} cannot be read: {error}", VOLUME) from error


VOLUME: Final = "check the volume and the server behind it, and what the node's kernel says of the mount"
