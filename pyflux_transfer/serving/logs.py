"""Log lines for people or for machines."""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime, timezone

ACCESS = logging.getLogger("pyflux_transfer.serving.access")


class JsonFormatter(logging.Formatter):
    """One JSON object a line; what a record carries in `fields` becomes keys of it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        moment = datetime.fromtimestamp(record.created, timezone.utc)
        row = {
            "time": moment.isoformat("T", "milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            row["traceback"] = self.formatException(record.exc_info)
        return json.dumps(row, default=str)


class PlainFormatter(logging.Formatter):
    """Time, level, message; fields as key=value behind."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and the traceback below it where there is one."""
        line = super().format(record)
        fields = getattr(record, "fields", {})
        if not fields:
            return line
        head, *rest = line.split("\n")
        pairs = " ".join(f"{key}={_plain(value)}" for key, value in fields.items())
        return "\n".join([f"{head} {pairs}", *rest])


def _plain(value: object) -> str:
    """Quote what could pass for another field or another line."""
    text = str(value)
    return text if text.isprintable() and " " not in text else json.dumps(text)


def configure(form: str, level: str) -> None:
    """Send all log lines of this process, and Python's warnings, to stderr in one form.

    `level` is for our and the server's; libraries are heard from warnings on.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else PlainFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for name in ("pyflux_transfer", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers = []
        logger.setLevel(level.upper())
        logger.propagate = True
    logging.captureWarnings(True)
