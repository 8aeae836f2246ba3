"""An S3 server with a model: moto's, in a thread of this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from moto.server import ThreadedMotoServer

BUCKET = "models"
# A signature that nobody checks; moto wants to see one.
SIGNED = {"Authorization": "AWS4-HMAC-SHA256 Credential=id/20260101/us-east-1/s3/aws4_request, SignedHeaders=host"}


@contextmanager
def bucket_with(model: Path, host: str = "127.0.0.1") -> Iterator[str]:
    """The URL of a server at this address of the machine, which has the files of `model` below `tiny/` in BUCKET."""
    server = ThreadedMotoServer(ip_address=host, port=0)
    server.start()
    try:
        url = f"http://{host}:{server.get_host_and_port()[1]}"
        httpx.put(f"{url}/{BUCKET}", headers=SIGNED).raise_for_status()
        for file in model.iterdir():
            path = f"{url}/{BUCKET}/tiny/{file.name}"
            httpx.put(path, headers=SIGNED, content=file.read_bytes()).raise_for_status()
        yield url
    finally:
        server.stop()
