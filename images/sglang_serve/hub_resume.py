"""Lets the hub's client go on with a file where a process that was killed, or failed, stopped.

Since huggingface_hub 1.18 it begins each file at byte 0 again. Its two functions that get a file, over HTTP and from
Xet storage, stay the client's own, but are told where the part ends that is there. `tests/engine/hub_names.py` knows
what of the client this relies on; under a version without it, files begin at byte 0.
"""

from __future__ import annotations

import inspect
import logging
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO, Final

from huggingface_hub import file_download
from huggingface_hub.errors import HfHubHTTPError

from sglang_serve.hub_partial import Partial

try:
    from hf_xet import XetFileInfo, XetSession  # type: ignore[import-not-found]  # in the engine environment only
    from huggingface_hub.utils._xet import get_xet_session, refresh_xet_connection_info, xet_headers_without_auth

    _XET_STREAMS = hasattr(XetSession, "new_download_stream_group")
except ImportError:
    _XET_STREAMS = False

log = logging.getLogger(__name__)
_clients_http_get: Final = file_download.http_get
_clients_xet_get: Final[Any] = getattr(file_download, "xet_get", None)


def install() -> None:
    """For every download of this process from now on. Any number of times: adapters are downloaded side by side."""
    if "resume_size" in inspect.signature(_clients_http_get).parameters:
        file_download.http_get = _http_get
    if _XET_STREAMS and _clients_xet_get:
        file_download.xet_get = _xet_get


def _http_get(url: str, temp_file: BinaryIO, **options: Any) -> None:
    partial = Partial.at(Path(str(getattr(temp_file, "name", ""))), options.get("expected_size"))
    if partial is None or "resume_size" in options:  # the client goes on with a connection that broke
        _clients_http_get(url, temp_file, **options)
        return

    def get(start: int) -> bool:
        with partial.path.open("r+b" if start else "wb") as out:
            out.seek(start)
            try:
                _clients_http_get(url, out, resume_size=start, **options)
            except HfHubHTTPError as error:
                if start and getattr(error.response, "status_code", 0) == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    return False
                raise
        return True

    partial.fetch(get)


def _xet_get(*, incomplete_path: Path, **options: Any) -> None:
    partial = Partial.at(incomplete_path, options.get("expected_size"))
    if partial is None:
        _clients_xet_get(incomplete_path=incomplete_path, **options)
        return

    def get(start: int) -> bool:
        if start:
            try:
                _append_from_xet(partial, start, options["xet_file_data"], options["headers"])
            except (AttributeError, TypeError):  # another hf_xet, as an image of the user's may have
                log.exception("this hf_xet cannot go on with a file")
                return False
        else:  # it writes from front to back: what is there when it is killed is a part to go on with
            _clients_xet_get(incomplete_path=partial.path, **options)
        return True

    partial.fetch(get)


def _append_from_xet(partial: Partial, start: int, wanted: Any, headers: dict[str, str]) -> None:
    """As the client connects, but for a stream, which can begin in the middle of a file."""
    told = refresh_xet_connection_info(file_data=wanted, headers=headers)
    with (
        get_xet_session().new_download_stream_group(
            endpoint=told.endpoint,
            token=told.access_token,
            token_expiry_unix_secs=told.expiration_unix_epoch,
            token_refresh_url=wanted.refresh_route,
            token_refresh_headers=headers,
            custom_headers=xet_headers_without_auth(headers),
        ) as group,
        partial.path.open("r+b") as out,
    ):
        out.seek(start)
        for piece in group.download_stream(XetFileInfo(wanted.file_hash, partial.size), start=start):
            out.write(piece)
