"""Downloads from the model hub, with progress. Runs in the engine environment, which has huggingface_hub."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

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
from huggingface_hub.utils import get_session

from sglang_serve import hub_resume, hub_texts
from sglang_serve.args import COMMIT
from sglang_serve.errors import StartError, without_queries
from sglang_serve.hub_cache import File, HubCache
from sglang_serve.hub_others import looks_whole
from sglang_serve.progress import Bytes, Say, following
from sglang_serve.weights import unneeded


@dataclass(frozen=True)
class _Listing:
    commit: str
    files: Mapping[str, File]


def resolve(repository: str, revision: str, load_format: str, say: Say) -> str:
    """The commit that a revision is now; that of the copy in the cache, if the hub does not answer."""
    if COMMIT.fullmatch(revision):
        return revision
    with _named(repository, revision):
        say(f"asking {constants.ENDPOINT} which commit {repository}, revision {revision}, is")
        found = _ask(repository, revision)
        if isinstance(found, _Listing):
            return found.commit
        return _cached(repository, revision, load_format, found, say).name


def download(repository: str, revision: str, commit: str = "", load_format: str = "auto", *, say: Say) -> Path:
    """The directory with the files of this revision, or of the commit that it is held to be; what is in the cache
    already is not downloaded again.

    A hub that is away, or refuses for now, is no error when the cache has it: replicas restart meanwhile.
    """
    with _named(repository, commit or revision):
        say(f"asking {constants.ENDPOINT} for {repository}, revision {commit or revision}")
        found = _ask(repository, commit or revision)
        if not isinstance(found, _Listing):
            return _cached(repository, commit or revision, load_format, found, say)
        path = _complete(repository, found, load_format, say)
        _cache(repository).remember(revision, found.commit, found.files)
        return path


def _ask(repository: str, revision: str) -> _Listing | Exception:
    """What the hub has, or why it does not answer for now."""
    _limit_patience()
    try:
        model = HfApi().model_info(repository, revision=revision, files_metadata=True)
    except HFValidationError:
        raise
    except Exception as error:  # whatever the HTTP client of this hub version raises
        if isinstance(error, HfHubHTTPError) and not (_is_passing(error) or _is_of_a_commit(error, revision)):
            raise
        return error
    files = {
        one.rfilename: File(one.size or 0, one.lfs.sha256 if one.lfs else one.blob_id or "")
        for one in model.siblings or ()
    }
    return _Listing(model.sha or revision, files)


def _limit_patience() -> None:
    """The client waits for ever for a listing: give requests without a limit the one that it has for a file's head."""
    session = get_session()
    if isinstance(session, httpx.Client):  # under huggingface_hub 1
        hooks = session.event_hooks
        others = [hook for hook in hooks["request"] if hook is not _limit]
        session.event_hooks = {**hooks, "request": [*others, _limit]}


def _limit(request: httpx.Request) -> None:
    if (request.extensions.get("timeout") or {}).get("read") is None:
        request.extensions["timeout"] = httpx.Timeout(constants.HF_HUB_ETAG_TIMEOUT).as_dict()


def _complete(repository: str, found: _Listing, load_format: str, say: Say) -> Path:
    leave = unneeded(tuple(found.files), load_format)
    wanted = {name: file for name, file in found.files.items() if name not in leave}
    cache, blobs = _cache(repository), {file.blob for file in wanted.values()}
    total = Bytes(sum(file.size for file in wanted.values()))
    cache.remove_short(found.commit, wanted)
    cache.remove_leftovers(blobs)
    hub_resume.install()
    arrived = cache.arrived(blobs)  # on disk: versions of the client count differently
    with following(repository, total, arrived, say), _of_xet():
        return Path(snapshot_download(repository, revision=found.commit, ignore_patterns=_escaped(leave)))


@contextmanager
def _of_xet() -> Iterator[None]:
    """hf_xet, by which the hub's own server sends large files, has no errors but RuntimeError: connections mostly."""
    try:
        yield
    except RuntimeError as error:
        raise OSError(str(error)) from error


def _cached(repository: str, revision: str, load_format: str, error: Exception, say: Say) -> Path:
    cache = _cache(repository)
    path = cache.whole(cache.commit(revision), load_format) or _filled_by_others(cache, revision, load_format)
    if path is None:
        if isinstance(error, HfHubHTTPError):
            raise error
        what = f"the hub cannot be reached and the cache has no whole copy of revision {revision} ({error})"
        raise OSError(what) from error
    say(without_queries(f"the hub does not give it ({error}); serving the copy of {repository} in the cache"))
    return path


def _filled_by_others(cache: HubCache, revision: str, load_format: str) -> Path | None:
    """A copy that the client knows of and this has never listed. Without a listing of its own, as an older one writes
    none, the client gives half a copy, too."""
    if cache.is_listed(cache.commit(revision)):
        return None
    try:
        path = Path(snapshot_download(cache.repository, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    return path if looks_whole(path, load_format) else None


def _cache(repository: str) -> HubCache:
    return HubCache(Path(constants.HF_HUB_CACHE), repository)


@contextmanager
def _named(repository: str, revision: str) -> Iterator[None]:
    """Every error of the hub as one with a reason."""
    hub_texts.install()
    try:
        with hub_texts.unsigned():
            yield
    except RevisionNotFoundError as error:
        remedy = "correct spec.model.revision; if its branch was that commit once, set another spec.restartToken"
        raise StartError("ModelNotFound", f"hf://{repository} has no revision {revision!r}", remedy) from error
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


def _is_passing(error: HfHubHTTPError) -> bool:
    """Whether the hub may answer another time: too many requests, or trouble of its own."""
    status = getattr(error.response, "status_code", 0)
    for_now = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
    return status in for_now or status >= HTTPStatus.INTERNAL_SERVER_ERROR


def _is_of_a_commit(error: HfHubHTTPError, revision: str) -> bool:
    """The hub has this commit no more, since somebody rewrote its branch: a copy of it is as good as before."""
    return isinstance(error, RevisionNotFoundError) and COMMIT.fullmatch(revision) is not None


def _refused(repository: str, error: HfHubHTTPError) -> StartError:
    status = getattr(error.response, "status_code", 0)
    if status in (401, 403) and _is_of_the_hub(error):
        return StartError("AccessDenied", f"the hub refused hf://{repository} with status {status}")
    return StartError("DownloadFailed", f"the hub answered for hf://{repository}: {error}")


def _is_of_the_hub(error: HfHubHTTPError) -> bool:
    """Not of the storage that it sends for the files, which refuses an address that was signed too long ago."""
    hubs = (constants.ENDPOINT, "https://huggingface.co")  # hf.co and some mirrors send on to it
    return urlsplit(str(error.response.url)).hostname in {urlsplit(hub).hostname for hub in hubs}


def _escaped(names: Sequence[str]) -> list[str]:
    """As patterns of fnmatch, where a bracket has a meaning."""
    return [name.replace("[", "[[]") for name in names]
