"""What an error of object storage, or of whoever gives credentials for it, means. Runs where obstore is."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final

from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

from sglang_serve.errors import StartError, without_queries

CREDENTIALS: Final = (
    "set spec.model.storageSecret to a Secret with credentials that may list and read it, or "
    'spec.serviceAccountName for workload identity; AWS_SKIP_SIGNATURE: "true" for a public bucket'
)
STORAGE: Final = (
    "check endpoint and region in spec.model.storageSecret, and that the storage can be reached from this pod (proxy, "
    "DNS, network policy); what has arrived is kept, and the next start goes on from there"
)

# What the text of an error tells, for those that obstore has no class for.
_ABSENT: Final = re.compile(r"NoSuchBucket|NoSuchKey|404 Not Found")
_REFUSED: Final = re.compile(r"AccessDenied|40[13] (Forbidden|Unauthorized)")
_NO_CREDENTIALS: Final = re.compile(r"credential", re.IGNORECASE)
# Asked where no Secret gives credentials: the machine's service (IMDS, GKE), or that of a pod's identity (ECS, EKS).
_SERVICE: Final = re.compile(
    r"https?://[^\s?]*/(latest/(api/token|meta-data)|computeMetadata|v\d/credentials)\b|https?://169\.254\.170\.(2|23)\b"
)
_STATUS: Final = re.compile(r"status code: (\d{3})")
_FOR_NOW: Final = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
_STALLED: Final = re.compile(r"kind: Timeout|timed ?out", re.IGNORECASE)


@contextmanager
def named(uri: str) -> Iterator[None]:
    """Every error of the storage as one with a reason."""
    try:
        yield
    except (BaseError, FileNotFoundError) as error:
        raise _classified(uri, error) from error
    except OSError as error:
        raise StartError("DownloadFailed", f"{uri}: {error}") from error


@contextmanager
def on_volume(uri: str) -> Iterator[None]:
    """Every error of the volume, which is full or not writable, as one with a reason."""
    try:
        yield
    except OSError as error:
        raise StartError("DownloadFailed", f"{uri}: {error}") from error


def _classified(uri: str, error: Exception) -> StartError:
    text = str(error)
    line = " ".join(without_queries(text.partition("Debug source")[0]).split())[:500]
    if _is_of_credentials(line):
        return _without_credentials(uri, line, text)
    if isinstance(error, FileNotFoundError) or _ABSENT.search(text):
        return StartError("ModelNotFound", f"{uri}: the storage has no such bucket or object")
    if _NO_CREDENTIALS.search(line):
        return _denied(uri, f"no credentials: {line}")
    if isinstance(error, PermissionDeniedError | UnauthenticatedError) or _REFUSED.search(text):
        return _denied(uri, f"the storage refuses: {line}")
    stalled = "stalled, no answer in the time for a piece: " if _STALLED.search(text) else ""
    return StartError("DownloadFailed", f"{uri}: {stalled}{line}", STORAGE)


def _is_of_credentials(line: str) -> bool:
    told = os.environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI", "").partition("?")[0]
    return bool(_SERVICE.search(line) or (told and told in line))


def _without_credentials(uri: str, line: str, text: str) -> StartError:
    """Whether the service gives none, is away for now, or is not there, which may be either."""
    if "kind: Connect" in text:
        return NobodyToAskError("AccessDenied", f"{uri}: no credentials: {line}", CREDENTIALS)
    found = _STATUS.search(line)
    status = int(found[1]) if found else 0
    if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in _FOR_NOW:
        return _denied(uri, f"no credentials: {line}")
    what = f"{uri}: what gives credentials here does not answer for now: {line}"
    return StartError("DownloadFailed", what, f"wait; or if nothing gives any here, {CREDENTIALS}")


class NobodyToAskError(StartError):
    """There are no credentials, and no service that could give any. On a machine that has one, it is away."""


def _denied(uri: str, what: str) -> StartError:
    return StartError("AccessDenied", f"{uri}: {what}", CREDENTIALS)
