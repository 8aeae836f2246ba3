"""Compares the installed hub client with what `sglang_serve/hub_resume.py` relies on. Run by the engine's Python.

Out: one line for each difference.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from hf_xet import XetDownloadStreamGroup, XetSession  # type: ignore[import-not-found]
from huggingface_hub import file_download
from huggingface_hub.utils import _xet

DOWNLOAD = (
    'f"{incomplete_path.stem}.{uuid.uuid4().hex[:8]}.incomplete"',  # its own name
    'with tmp_path.open("wb") as f:',
    "http_get(url_to_download,f,headers=headers,expected_size=expected_size,",
    "xet_get(incomplete_path=tmp_path,xet_file_data=xet_file_data,headers=headers,expected_size=expected_size,",
    "_chmod_and_move(tmp_path,destination_path)",
)
XET = (
    "refresh_xet_connection_info(file_data=xet_file_data,headers=headers)",
    "endpoint=connection_info.endpoint,token=connection_info.access_token,",
    "token_expiry_unix_secs=connection_info.expiration_unix_epoch,token_refresh_url=xet_file_data.refresh_route,",
    "token_refresh_headers=headers,custom_headers=xet_headers,",
    "XetFileInfo(xet_file_data.file_hash,expected_size)",
)
CACHE = (
    'Path(blob_path+".incomplete")',
    'blob_path=os.path.join(storage_folder,"blobs",etag)',
    "WeakFileLock(lock_path):",
    "_download_to_tmp_and_move(",
)


def differences() -> Iterator[str]:
    yield from texts("_download_to_tmp_and_move", file_download._download_to_tmp_and_move, *DOWNLOAD)
    yield from texts("_hf_hub_download_to_cache_dir", file_download._hf_hub_download_to_cache_dir, *CACHE)
    yield from texts("xet_get", file_download.xet_get, *XET)
    yield from texts("http_get", file_download.http_get, "return http_get(", "resume_size=new_resume_size,")
    if inspect.signature(file_download.http_get).parameters["resume_size"].default != 0:
        yield "http_get has another `resume_size`"
    for name in ("get_xet_session", "refresh_xet_connection_info", "xet_headers_without_auth"):
        if not hasattr(_xet, name):
            yield f"huggingface_hub.utils._xet has no {name}"
    yield from parameters("new_download_stream_group", XetSession, "token_refresh_headers=None, custom_headers=None")
    yield from parameters("download_stream", XetDownloadStreamGroup, "file_info, start=None")


def texts(where: str, function: Any, *needed: str) -> Iterator[str]:
    """However the source is broken into lines."""
    source = "".join(inspect.getsource(function).split())
    for text in needed:
        if "".join(text.split()) not in source:
            yield f"{where} does not mention `{text}` any more"


def parameters(name: str, cls: type, needed: str) -> Iterator[str]:
    function = getattr(cls, name, None)
    if needed not in (getattr(function, "__text_signature__", "") or ""):
        yield f"{cls.__name__}.{name} does not take `{needed}` any more"


if __name__ == "__main__":
    for difference in differences():
        print("difference:", difference)
