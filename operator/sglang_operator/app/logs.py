"""Log lines: one JSON object each, with the endpoint and the pass that they belong to.

Only the fields below are written, never the other attributes of a record, so that nothing gets into a log by accident.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Final, TextIO

from sglang_operator.app.options import LogFormat
from sglang_operator.cluster.workers import current_pass

KOPF_QUIET: Final = logging.WARNING  # at INFO it reports each event that it hands over
FIELDS: Final = ("time", "level", "logger", "message", "endpoint", "pass", "error")


class JsonFormatter(logging.Formatter):
    """One line of JSON with FIELDS; those without a value are left out."""

    def format(self, record: logging.LogRecord) -> str:
        """See the class."""
        values = (
            datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            record.levelname.lower(),
            record.name,
            record.getMessage(),
            *_of_pass(),
            self.formatException(record.exc_info) if record.exc_info else "",
        )
        fields = {name: value for name, value in zip(FIELDS, values, strict=True) if value}
        return json.dumps(fields, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """For people: time, level, endpoint, message."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """See the class."""
        endpoint, identifier = _of_pass()
        line = super().format(record)
        return f"{line} [{endpoint} {identifier}]" if endpoint else line


def configure(form: LogFormat, level: str, stream: TextIO | None = None) -> None:
    """Send everything of this process to `stream`, stderr if none is given."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.captureWarnings(capture=True)
    if level.upper() != "DEBUG":
        logging.getLogger("kopf").setLevel(max(KOPF_QUIET, logging.getLogger().level))
    # It runs in a thread on purpose; signals are ours.
    logging.getLogger("kopf._core.reactor.running").addFilter(lambda record: "signals" not in record.getMessage())


def _of_pass() -> tuple[str, str]:
    running = current_pass.get()
    return (str(running.key), running.id) if running else ("", "")
