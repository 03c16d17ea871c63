from __future__ import annotations

import json
import logging
import sys

from pyflux_transfer.serving.logs import JsonFormatter, PlainFormatter


def record(message: str, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("a.b", logging.WARNING, "file", 1, message, (), None)
    made.fields = fields
    return made


def test_json_lines_hold_the_fields_and_stay_one_line() -> None:
    line = JsonFormatter().format(record('two\nlines "quoted"', status=200, path="/a\nb"))
    assert "\n" not in line
    row = json.loads(line)
    assert (row["message"], row["status"], row["level"]) == (
        'two\nlines "quoted"',
        200,
        "warning",
    )
    assert row["time"].endswith("+00:00")


def test_a_traceback_is_kept() -> None:
    made = record("failed")
    try:
        raise RuntimeError("boom")
    except RuntimeError:
        made.exc_info = sys.exc_info()
    assert "RuntimeError: boom" in json.loads(JsonFormatter().format(made))["traceback"]
    assert "RuntimeError: boom" in PlainFormatter().format(made)


def test_plain_lines_show_the_fields_behind_the_message() -> None:
    assert PlainFormatter().format(record("request", status=200)).endswith("request status=200")
    forged = PlainFormatter().format(record("request", path="/a\n2030 INFO status=200"))
    assert forged.endswith('path="/a\\n2030 INFO status=200"')
    assert PlainFormatter().format(record("hello")).endswith("WARNING hello")
