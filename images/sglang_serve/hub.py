"""Downloads from the model hub, with progress. Runs in the engine environment, which has huggingface_hub."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path

import httpx  # under huggingface_hub 1; under an older one its errors are OSErrors
from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from sglang_serve.errors import StartError
from sglang_serve.progress import Say, following
from sglang_serve.weights import Bytes, unneeded


def download(repository: str, revision: str, say: Say) -> Path:
    """The directory with the files of this revision; what is in the cache already is not downloaded again.

    A hub that is away, or refuses for now, is no error when the cache has the revision: replicas restart meanwhile.
    """
    try:
        return _download(repository, revision, say)
    except RevisionNotFoundError as error:
        raise StartError("ModelNotFound", f"hf://{repository} has no revision {revision!r}") from error
    except GatedRepoError as error:
        raise StartError("AccessDenied", f"hf://{repository} is gated and the hub refused access") from error
    except RepositoryNotFoundError as error:  # the hub says the same of a private one, so as not to tell that it exists
        what = f"the hub has no model {repository}, or it is private and the token is missing or may not read it"
        raise StartError("ModelNotFound", what, "correct spec.model.uri, or set spec.model.tokenSecret") from error
    except HFValidationError as error:
        raise StartError("ModelNotFound", f"hf://{repository} is not a name of a model: {error}") from error
    except HfHubHTTPError as error:
        raise _refused(repository, error) from error
    except (OSError, httpx.HTTPError) as error:  # no connection, one that broke, disk full
        raise StartError("DownloadFailed", f"hf://{repository} from {constants.ENDPOINT}: {error}") from error


def _download(repository: str, revision: str, say: Say) -> Path:
    say(f"asking {constants.ENDPOINT} for {repository}, revision {revision}")
    try:
        model = HfApi().model_info(repository, revision=revision, files_metadata=True)
    except HfHubHTTPError as error:
        if not _is_passing(error):
            raise
        return _cached(repository, revision, error, say)
    except Exception as error:  # noqa: BLE001 - whatever the HTTP client of this hub version raises
        return _cached(repository, revision, error, say)
    files = {file.rfilename: file.size or 0 for file in model.siblings or ()}
    leave = unneeded(tuple(files))
    total = Bytes(sum(size for name, size in files.items() if name not in leave))
    blobs = Path(constants.HF_HUB_CACHE, f"models--{repository.replace('/', '--')}", "blobs")
    with following(repository, total, lambda: _size(blobs), say):  # on disk: versions of the client count differently
        return Path(snapshot_download(repository, revision=model.sha, ignore_patterns=_escaped(leave)))


def _cached(repository: str, revision: str, error: Exception, say: Say) -> Path:
    try:
        path = Path(snapshot_download(repository, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        if isinstance(error, HfHubHTTPError):
            raise error from None
        raise OSError(f"the hub cannot be reached and the cache has no copy ({error})") from error
    say(f"the hub does not answer ({error}); serving the copy of {repository} in the cache")
    return path


def _is_passing(error: HfHubHTTPError) -> bool:
    """Whether the hub may answer another time: too many requests, or trouble of its own."""
    status = getattr(error.response, "status_code", 0)
    for_now = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
    return status in for_now or status >= HTTPStatus.INTERNAL_SERVER_ERROR


def _refused(repository: str, error: HfHubHTTPError) -> StartError:
    status = getattr(error.response, "status_code", 0)
    if status in (401, 403):
        return StartError("AccessDenied", f"the hub refused hf://{repository} with status {status}")
    return StartError("DownloadFailed", f"the hub answered for hf://{repository}: {error}")


def _escaped(names: Sequence[str]) -> list[str]:
    """As patterns of fnmatch, where a bracket has a meaning."""
    return [name.replace("[", "[[]") for name in names]


def _size(blobs: Path) -> int:
    """Bytes on disk: a file that is being written may be sparse."""
    try:
        return sum(path.stat().st_blocks * 512 for path in blobs.iterdir())
    except FileNotFoundError:  # not begun, or a part was just renamed
        return 0
