"""Keeps what opens a file out of all that is told of downloads: a hub sends to addresses of its storage that are signed
for an hour, and the texts of its client, which name them, go to logs, into the status and to whoever asks a replica."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from sglang_serve.errors import without_queries


@contextmanager
def unsigned() -> Iterator[None]:
    """Cut the texts of an error and of those that it came of, which the log has with its traceback, too."""
    try:
        yield
    except Exception as error:
        one: BaseException | None = error
        while one is not None:
            one.args = tuple(without_queries(text) if isinstance(text, str) else text for text in one.args)
            one = one.__cause__ or one.__context__
        raise


class _Filter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = without_queries(record.getMessage()), None
        return True


_FILTER = _Filter()


def install() -> None:
    """For what the client and its HTTP client log from now on. Any number of times."""
    logging.getLogger("httpx").addFilter(_FILTER)
    for handler in logging.getLogger("huggingface_hub").handlers:  # not the logger: those of its modules pass it by
        handler.addFilter(_FILTER)
